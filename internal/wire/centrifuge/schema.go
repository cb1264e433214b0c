package centrifuge

// field is one value of a Command, whichever message it comes in.
type field uint8

const (
	noField field = iota

	// text
	fChannel
	fToken
	fName
	fVersion
	fEpoch
	fDelta
	fRPCMethod
	// JSON as it is, or bytes
	fData
	// messages and maps
	fSubs
	fHeaders
	fSince
	fFilter
	// numbers and truth values
	fRecover
	fPositioned
	fRecoverable
	fJoinLeave
	fReverse
	fOffset
	fFlag
	fType
	fLimit
)

// member is a field of a message: its number in Protobuf, its name in JSON.
type member struct {
	number int32
	name   string
	field  field
}

// schema is the fields of a message that are read.
type schema []member

// requests are the messages of the methods. The number of a method in a command is its place here.
var requests = [...]struct {
	method Method
	schema schema
}{
	4: {Connect, schema{
		{1, "token", fToken}, {2, "data", fData}, {3, "subs", fSubs}, {4, "name", fName}, {5, "version", fVersion},
		{6, "headers", fHeaders},
	}},
	5: {Subscribe, append(schema{{1, "channel", fChannel}, {2, "token", fToken}, {8, "data", fData}}, options...)},
	6: {Unsubscribe, schema{{1, "channel", fChannel}}},
	7: {Publish, schema{{1, "channel", fChannel}, {2, "data", fData}, {3, "type", fType}}},
	8: {Presence, schema{{1, "channel", fChannel}}},
	9: {PresenceStats, schema{{1, "channel", fChannel}}},
	10: {History, schema{
		{1, "channel", fChannel}, {7, "limit", fLimit}, {8, "since", fSince}, {9, "reverse", fReverse},
	}},
	11: {Ping, nil},
	12: {Send, schema{{1, "data", fData}}},
	13: {RPC, schema{{1, "data", fData}, {2, "method", fRPCMethod}}},
	14: {Refresh, schema{{1, "token", fToken}}},
	15: {SubRefresh, schema{{1, "channel", fChannel}, {2, "token", fToken}, {3, "type", fType}}},
}

// options are the fields of SubscribeOptions: of a subscribe, and of each entry of connect's subs.
var options = schema{
	{3, "recover", fRecover}, {6, "epoch", fEpoch}, {7, "offset", fOffset}, {9, "positioned", fPositioned},
	{10, "recoverable", fRecoverable}, {11, "join_leave", fJoinLeave}, {12, "delta", fDelta}, {13, "tf", fFilter},
	{14, "flag", fFlag}, {15, "type", fType},
}

// position is the message of since.
var position = schema{{1, "offset", fOffset}, {2, "epoch", fEpoch}}

func (s schema) named(name []byte) field {
	for i := range s {
		if s[i].name == string(name) {
			return s[i].field
		}
	}
	return noField
}

func (s schema) numbered(n int32) field {
	for i := range s {
		if s[i].number == n {
			return s[i].field
		}
	}
	return noField
}

// request returns the number of a method in a command by its name in JSON, 0 if it has none.
func request(name []byte) int32 {
	switch string(name) {
	case "connect":
		return 4
	case "subscribe":
		return 5
	case "unsubscribe":
		return 6
	case "publish":
		return 7
	case "presence":
		return 8
	case "presence_stats":
		return 9
	case "history":
		return 10
	case "ping":
		return 11
	case "send":
		return 12
	case "rpc":
		return 13
	case "refresh":
		return 14
	case "sub_refresh":
		return 15
	}
	return 0
}
