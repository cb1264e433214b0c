package channel

import (
	"bytes"
	"unicode/utf8"
)

// What single bytes of a channel's name mean, as in Centrifugo with its defaults.
const (
	privatePrefix     = '$' // in front: subscribing needs a token
	namespaceBoundary = ':' // behind the namespace, where the first one stands
	userBoundary      = '#' // before the list of users, where the last one stands
	userSeparator     = ','
)

// NameMax is how long a channel's name may be, in bytes, where nothing else is said.
const NameMax = 255

// CheckName reports whether a channel may be called that: 1 to limit bytes (limit 0 means NameMax) of valid UTF-8
// without control characters, which are the bytes below 0x20 and 0x7f. Names stand in JSON, in logs and in metrics, and
// what is not UTF-8 could not come back in JSON as it went in; so this holds for clients of both encodings. Whoever
// names another channel gets error 107, bad request.
func CheckName(channel []byte, limit int) bool {
	if limit == 0 {
		limit = NameMax
	}
	if len(channel) == 0 || len(channel) > limit {
		return false
	}
	ascii := true
	for _, c := range channel {
		if c < 0x20 || c == 0x7f {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.Valid(channel)
}

// Namespace is the part of a channel's name before the first colon, without the $ in front: chat in "chat:room1" and
// "$chat:room1". It is empty where there is no colon or nothing before it. It is a part of channel, not a copy.
func Namespace(channel []byte) []byte {
	if Private(channel) {
		channel = channel[1:]
	}
	return channel[:max(0, bytes.IndexByte(channel, namespaceBoundary))]
}

// Private reports whether subscribing to the channel needs a token for it, whatever its namespace allows: its name
// begins with $.
func Private(channel []byte) bool { return len(channel) > 0 && channel[0] == privatePrefix }

// UserLimited reports whether the channel's name lists the users who may subscribe without a token: it has a #.
func UserLimited(channel []byte) bool { return bytes.IndexByte(channel, userBoundary) >= 0 }

// AllowsUser reports whether the channel's name has nothing against the user: it lists nobody, or user is on the list,
// which is what stands behind the last #, with commas between. Nobody is on a list without a name: an empty user is
// anonymous, and a list never has those.
func AllowsUser(channel []byte, user string) bool {
	at := bytes.LastIndexByte(channel, userBoundary)
	if at < 0 {
		return true
	}
	if user == "" {
		return false
	}
	for list, more := channel[at+1:], true; more; {
		var one []byte
		one, list, more = bytes.Cut(list, []byte{userSeparator})
		if string(one) == user {
			return true
		}
	}
	return false
}
