package ws

// Role says which end of a connection the caller is. A Server reads masked frames and writes
// unmasked ones, a Client the reverse (RFC 6455 section 5.1). The zero value is Server.
type Role uint8

// The two ends of a connection.
const (
	Server Role = iota
	Client
)

// String returns "server" or "client".
func (r Role) String() string {
	if r == Client {
		return "client"
	}
	return "server"
}
