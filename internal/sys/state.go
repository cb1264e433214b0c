package sys

// stateNames are the states as the kernel's source names them.
var stateNames = [...]string{
	SocketEstablished: "ESTABLISHED",
	SocketSynSent:     "SYN_SENT",
	SocketSynReceived: "SYN_RECV",
	SocketFinWait1:    "FIN_WAIT1",
	SocketFinWait2:    "FIN_WAIT2",
	SocketTimeWait:    "TIME_WAIT",
	SocketClosed:      "CLOSE",
	SocketCloseWait:   "CLOSE_WAIT",
	SocketLastAck:     "LAST_ACK",
	SocketListening:   "LISTEN",
	SocketClosing:     "CLOSING",
}

// String is the state as the kernel's source names it, without its prefix TCP_.
func (s SocketState) String() string {
	if int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return "UNKNOWN"
}
