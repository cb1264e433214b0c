package centrifuge

// Rest is what follows the last command, for another Reader's Reset.
func (r *Reader) Rest() []byte {
	if r.format == JSON {
		return r.json.Rest()
	}
	return r.rest
}
