package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/longwire/longwire"
)

// Bounds of what pages may say, in characters.
const (
	maxName = 24
	maxText = 500
)

// newGateway makes a gateway on addr that serves the room, and at every other path what routes has.
func newGateway(addr string, routes http.Handler) (*longwire.Gateway, error) {
	room := longwire.Centrifuge("/connection/websocket")
	room.Origins = nil // pages of this host, and no others
	room.MaxMessage = 8 << 10
	return longwire.New(longwire.Config{
		Addr:      addr,
		Log:       slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		HTTP:      routes,
		Endpoints: []longwire.Endpoint{room},
		Channels: longwire.ChannelOptions{
			SubscribeForClient: true, PublishForSubscriber: true, PublishHook: true, PublishRate: 20,
			Presence: true, PresenceForSubscriber: true, JoinLeave: true,
			// What a page missed it gets when it is back, if it is among the last 300 of an hour.
			HistorySize: 300, HistoryTTL: time.Hour, HistoryForSubscriber: true, AllowRecovery: true,
		},
		// Short, for people who watch. The defaults, 25 s and 8 s, are for people who don't.
		Sessions: longwire.Sessions{Ping: 2 * time.Second, Pong: 1500 * time.Millisecond},
		Hooks:    longwire.Hooks{Connect: enter, Publish: say},
	})
}

// enter lets everybody in who says a name. There are no passwords: it is a room for trying things.
func enter(_ context.Context, _ longwire.Client, r longwire.ConnectRequest) (longwire.ConnectReply, error) {
	var who struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(r.Data, &who) != nil || !printable(who.Name, maxName) {
		return longwire.ConnectReply{}, &longwire.Disconnect{Code: 4500, Reason: "want a name of 1 to 24 characters"} // do not come back
	}
	return longwire.ConnectReply{User: who.Name}, nil
}

// say lets messages pass that have a text and an id, and adds the time. The id is the page's own, by which it knows its
// messages again.
func say(_ context.Context, _ longwire.Client, r longwire.PublishRequest) (longwire.PublishReply, error) {
	var m struct {
		ID   string `json:"id"`
		Text string `json:"text"`
		At   int64  `json:"at"` // milliseconds since 1970
	}
	if r.Channel != "chat" || json.Unmarshal(r.Data, &m) != nil || !goodID.MatchString(m.ID) || !printable(m.Text, maxText) {
		return longwire.PublishReply{}, &longwire.Error{Code: 400, Message: "want, in the channel chat, an id and a text of 1 to 500 characters"}
	}
	m.At = time.Now().UnixMilli()
	b, err := json.Marshal(m) // without anything else that came with it
	return longwire.PublishReply{Data: b}, err
}

// printable reports whether s has 1 to max characters, something to see and nothing that is not text.
func printable(s string, max int) bool {
	return strings.TrimSpace(s) != "" && utf8.RuneCountInString(s) <= max && strings.IndexFunc(s, unicode.IsControl) < 0
}
