package loop

// Queues is the number of write queues that l has made. It is called on l's thread.
func Queues(l *Loop) int { return len(l.queues) }
