// Package lab puts claims on trial. An experiment brings about what the article that Longwire was founded on tells of,
// such as a leak, once the faulty way and once mended, measures both, and gives a verdict on each claim from the figures.
//
// What is measured runs in a process of its own, the subject: its memory, goroutines and collections are its own, and not
// those of the load that is put on it. The lab starts its own program again for that; Serve is what that program calls.
package lab
