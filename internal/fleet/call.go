package fleet

// Call has g called with the Speaker of each loop, on its thread, and returns at once.
func (f *Fleet) Call(g func(Speaker)) {
	for i := range f.crews {
		f.on(i, func(w *crew) { g(w.speaker) })
	}
}
