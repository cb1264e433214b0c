// Package channel is what a channel's name says: its namespace, and with it the options that hold for the channel and
// who may do what there. It has no state.
package channel

import (
	"strconv"
	"time"
)

// Options are what holds for the channels of one namespace. The zero value lets nobody in but who has a token, and
// keeps nothing.
//
// "Client" below is anybody with a user id, unless the option says otherwise; Anonymous ones have none.
type Options struct {
	// Name is the namespace: chat holds for chat:room1. Empty holds for channels without a colon.
	Name string

	// Who may subscribe without a token for the channel.
	SubscribeForClient    bool
	SubscribeForAnonymous bool // too, where SubscribeForClient is on
	// UserLimited lets the users that a channel's name lists (dialog#42,43) subscribe without more. With it off the list
	// gives nobody a right, but still takes SubscribeForClient's from those who are not on it.
	UserLimited bool
	// Who may publish.
	PublishForSubscriber bool
	PublishForClient     bool
	PublishForAnonymous  bool // too, where one of the two above is on
	// Who may ask who is there.
	PresenceForSubscriber bool
	PresenceForClient     bool
	PresenceForAnonymous  bool // as with publishing
	// Who may read history.
	HistoryForSubscriber bool
	HistoryForClient     bool
	HistoryForAnonymous  bool // as with publishing

	// Presence keeps who is there. JoinLeave tells subscribers who ask for it; ForceJoinLeave tells all.
	Presence       bool
	JoinLeave      bool
	ForceJoinLeave bool

	// HistorySize and HistoryTTL bound what is kept; both must be more than 0 for anything to be.
	HistorySize    int
	HistoryTTL     time.Duration
	HistoryMetaTTL time.Duration // for how long an empty stream keeps its position; zero: 30 days
	// ForceRecovery makes every subscription recoverable, ForcePositioning positioned; AllowRecovery and
	// AllowPositioning those whose clients ask for it.
	ForceRecovery    bool
	AllowRecovery    bool
	ForcePositioning bool
	AllowPositioning bool
	// RecoverMax is the most publications that one recovery brings; more is unrecovered. Zero: 300.
	RecoverMax int

	// AllowDelta lets clients ask for Fossil deltas.
	AllowDelta bool
	// DeltaPublish has publications of clients and of the API sent as deltas where subscribers asked for them.
	DeltaPublish bool

	// SubscribeHook, PublishHook and SubRefreshHook ask the application's backend.
	SubscribeHook  bool
	PublishHook    bool
	SubRefreshHook bool

	// PublishRate bounds the publications a second of one client in one channel, with bursts of PublishBurst. Zero: no
	// bound. PublishBurst zero: a second's worth, but at least 1.
	PublishRate  float64
	PublishBurst int

	// Slow is what happens to a subscriber that does not keep up.
	Slow SlowPolicy
	// SlowKeep is how many publications of the channel wait for a slow subscriber under DropOldest. Zero: 64.
	SlowKeep int
}

// SlowPolicy is what happens to a subscriber that does not keep up.
type SlowPolicy uint8

// The policies.
const (
	// SlowDisconnect ends its connection with 3008 when the write queue is full. It comes back and recovers.
	SlowDisconnect SlowPolicy = iota
	// SlowDropOldest keeps its last SlowKeep publications of the channel while it is behind.
	SlowDropOldest
	// SlowConflate keeps the newest publication only.
	SlowConflate
)

// String is the policy's name in a configuration: disconnect, drop-oldest or conflate.
func (p SlowPolicy) String() string {
	switch p {
	case SlowDisconnect:
		return "disconnect"
	case SlowDropOldest:
		return "drop-oldest"
	case SlowConflate:
		return "conflate"
	}
	return "SlowPolicy(" + strconv.Itoa(int(p)) + ")"
}

// KeepsHistory reports whether publications get offsets.
func (o *Options) KeepsHistory() bool { return o.HistorySize > 0 && o.HistoryTTL > 0 }
