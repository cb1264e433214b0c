package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/spelling"
)

// The sections of the file beside options: what holds for channels without a namespace, and the list of namespaces.
// They have no flags and no environment variables.
const (
	keyChannels   = "channels"
	keyNamespaces = "namespaces"
)

// devChannels is what --dev makes of channels without a namespace.
var devChannels = channel.Options{
	SubscribeForClient: true, SubscribeForAnonymous: true, UserLimited: true,
	PublishForClient: true, PublishForSubscriber: true, PublishForAnonymous: true,
	PresenceForClient: true, PresenceForSubscriber: true, PresenceForAnonymous: true,
	HistoryForClient: true, HistoryForSubscriber: true, HistoryForAnonymous: true,
	Presence: true, JoinLeave: true,
	HistorySize: 100, HistoryTTL: 5 * time.Minute, AllowRecovery: true, AllowPositioning: true,
	AllowDelta: true,
}

// channelOption describes one option of channels, as option does those of the gateway.
type channelOption struct {
	name string
	typ  string
	def  string
	help string

	also  string // what Centrifugo calls it, where that is more than underscores
	field func(*channel.Options) any
}

var channelOptions = []channelOption{
	{
		name: "allow-subscribe-for-client", typ: "bool", def: "false",
		help:  "Clients with a user id may subscribe without a token for the channel.",
		field: func(o *channel.Options) any { return &o.SubscribeForClient },
	}, {
		name: "allow-subscribe-for-anonymous", typ: "bool", def: "false",
		help:  "Clients without one too. It needs allow-subscribe-for-client.",
		field: func(o *channel.Options) any { return &o.SubscribeForAnonymous },
	}, {
		name: "allow-user-limited-channels", typ: "bool", def: "false",
		help:  "The users that a channel's name lists behind # may subscribe without a token.",
		field: func(o *channel.Options) any { return &o.UserLimited },
	}, {
		name: "allow-publish-for-subscriber", typ: "bool", def: "false",
		help:  "Clients that are subscribed to a channel may publish to it.",
		field: func(o *channel.Options) any { return &o.PublishForSubscriber },
	}, {
		name: "allow-publish-for-client", typ: "bool", def: "false",
		help:  "Clients may publish to a channel, subscribed or not.",
		field: func(o *channel.Options) any { return &o.PublishForClient },
	}, {
		name: "allow-publish-for-anonymous", typ: "bool", def: "false",
		help:  "Clients without a user id too. It needs one of the two above.",
		field: func(o *channel.Options) any { return &o.PublishForAnonymous },
	}, {
		name: "allow-presence-for-subscriber", typ: "bool", def: "false",
		help:  "Clients that are subscribed to a channel may ask who is there.",
		field: func(o *channel.Options) any { return &o.PresenceForSubscriber },
	}, {
		name: "allow-presence-for-client", typ: "bool", def: "false",
		help:  "Clients may ask who is in a channel, subscribed or not.",
		field: func(o *channel.Options) any { return &o.PresenceForClient },
	}, {
		name: "allow-presence-for-anonymous", typ: "bool", def: "false",
		help:  "Clients without a user id too. It needs one of the two above.",
		field: func(o *channel.Options) any { return &o.PresenceForAnonymous },
	}, {
		name: "allow-history-for-subscriber", typ: "bool", def: "false",
		help:  "Clients that are subscribed to a channel may read its history.",
		field: func(o *channel.Options) any { return &o.HistoryForSubscriber },
	}, {
		name: "allow-history-for-client", typ: "bool", def: "false",
		help:  "Clients may read a channel's history, subscribed or not.",
		field: func(o *channel.Options) any { return &o.HistoryForClient },
	}, {
		name: "allow-history-for-anonymous", typ: "bool", def: "false",
		help:  "Clients without a user id too. It needs one of the two above.",
		field: func(o *channel.Options) any { return &o.HistoryForAnonymous },
	}, {
		name: "presence", typ: "bool", def: "false",
		help:  "Keeps who is in a channel.",
		field: func(o *channel.Options) any { return &o.Presence },
	}, {
		name: "join-leave", typ: "bool", def: "false",
		help:  "Tells subscribers who comes and goes, if they ask for it and may ask who is there.",
		field: func(o *channel.Options) any { return &o.JoinLeave },
	}, {
		name: "force-push-join-leave", typ: "bool", def: "false",
		help:  "Tells all of them without being asked. It needs join-leave.",
		field: func(o *channel.Options) any { return &o.ForceJoinLeave },
	}, {
		name: "history-size", typ: "count", def: "0",
		help:  "How many publications of a channel are kept. 0 keeps none.",
		field: func(o *channel.Options) any { return (*Count)(&o.HistorySize) },
	}, {
		name: "history-ttl", typ: "duration", def: "off",
		help:  "For how long. It goes together with history-size.",
		field: func(o *channel.Options) any { return (*Duration)(&o.HistoryTTL) },
	}, {
		name: "history-meta-ttl", typ: "duration", def: "720h",
		help:  "For how long a channel whose publications are all gone keeps its position. At least history-ttl.",
		field: func(o *channel.Options) any { return (*Duration)(&o.HistoryMetaTTL) },
	}, {
		name: "allow-recovery", typ: "bool", def: "false",
		help:  "Subscriptions that ask for it are recoverable. It needs history.",
		field: func(o *channel.Options) any { return &o.AllowRecovery },
	}, {
		name: "force-recovery", typ: "bool", def: "false",
		help:  "All subscriptions are recoverable. It needs history.",
		field: func(o *channel.Options) any { return &o.ForceRecovery },
	}, {
		name: "allow-positioning", typ: "bool", def: "false",
		help:  "Subscriptions that ask for it are positioned. It needs history.",
		field: func(o *channel.Options) any { return &o.AllowPositioning },
	}, {
		name: "force-positioning", typ: "bool", def: "false",
		help:  "All subscriptions are positioned. It needs history.",
		field: func(o *channel.Options) any { return &o.ForcePositioning },
	}, {
		name: "recover-max", typ: "count", def: "300",
		help:  "The most publications that one recovery brings. A client that missed more is told that it was not recovered.",
		field: func(o *channel.Options) any { return (*Count)(&o.RecoverMax) },
	}, {
		name: "allow-delta", typ: "bool", def: "false", also: "allowed-delta-types",
		help:  "Clients may ask for publications as Fossil deltas.",
		field: func(o *channel.Options) any { return &o.AllowDelta },
	}, {
		name: "delta-publish", typ: "bool", def: "false",
		help:  "Sends every publication as a delta to those who asked for deltas. It needs allow-delta.",
		field: func(o *channel.Options) any { return &o.DeltaPublish },
	}, {
		name: "subscribe-hook", typ: "bool", def: "false", also: "subscribe-proxy-enabled",
		help:  "Asks hook-subscribe about subscriptions.",
		field: func(o *channel.Options) any { return &o.SubscribeHook },
	}, {
		name: "publish-hook", typ: "bool", def: "false", also: "publish-proxy-enabled",
		help:  "Asks hook-publish about publications of clients.",
		field: func(o *channel.Options) any { return &o.PublishHook },
	}, {
		name: "sub-refresh-hook", typ: "bool", def: "false", also: "sub-refresh-proxy-enabled",
		help:  "Asks hook-sub-refresh about subscriptions that expire.",
		field: func(o *channel.Options) any { return &o.SubRefreshHook },
	}, {
		name: "publish-rate", typ: "number a second", def: "0",
		help:  "The most publications a second of one client in one channel. Beyond it they are refused with error 111, too many requests. 0 is no bound.",
		field: func(o *channel.Options) any { return (*Rate)(&o.PublishRate) },
	}, {
		name: "publish-burst", typ: "count", def: "0",
		help:  "How many of them may come at once. 0 is a second's worth, at least 1. It needs publish-rate.",
		field: func(o *channel.Options) any { return (*Count)(&o.PublishBurst) },
	}, {
		name: "slow", typ: "disconnect, drop-oldest or conflate", def: "disconnect",
		help:  "What happens to a subscriber that does not keep up: its connection ends, or it misses the oldest publications, or all but the newest.",
		field: func(o *channel.Options) any { return (*slow)(&o.Slow) },
	}, {
		name: "slow-keep", typ: "count", def: "64",
		help:  "How many publications of a channel wait for a subscriber under drop-oldest.",
		field: func(o *channel.Options) any { return (*Count)(&o.SlowKeep) },
	},
}

// slow reads and writes a policy.
type slow channel.SlowPolicy

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *slow) UnmarshalText(b []byte) error {
	policies := []channel.SlowPolicy{channel.SlowDisconnect, channel.SlowDropOldest, channel.SlowConflate}
	words := make([]string, len(policies))
	for i, v := range policies {
		words[i] = v.String()
		if words[i] == string(b) {
			*p = slow(v)
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", b, strings.Join(words, ", "))
}

func (p slow) String() string { return channel.SlowPolicy(p).String() }

// deltas reads Centrifugo's list of delta types into whether there is any.
type deltas bool

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *deltas) UnmarshalText(b []byte) error {
	var types List
	if len(b) > 0 {
		if err := types.UnmarshalText(b); err != nil {
			return err
		}
	}
	for _, t := range types {
		if t != "fossil" {
			return fmt.Errorf("%q is no type of deltas: want fossil", t)
		}
	}
	*d = len(types) > 0
	return nil
}

// section is where the options of a namespace, or of channels without one, stand in the file. The zero value is nowhere.
type section struct {
	line  int            // of its beginning
	lines map[string]int // of options, by name
}

// lineOf is where that option stands, or where it would have to.
func (s *section) lineOf(option string) int {
	if line, ok := s.lines[option]; ok {
		return line
	}
	return s.line
}

// channels takes what stands below the key channels or namespaces.
func (l *Loaded) channels(name string, n *yaml.Node) []error {
	n = resolved(n)
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return nil // nothing below it, or comments only
	}
	if name == keyChannels {
		if n.Kind != yaml.MappingNode {
			return []error{fmt.Errorf("%s: channels: want a mapping of options to values, such as presence: true", l.at(n.Line))}
		}
		return l.namespace(&l.Channels, 0, n)
	}
	if n.Kind != yaml.SequenceNode {
		return []error{fmt.Errorf("%s: namespaces: want a list, each with a name, such as - name: chat", l.at(n.Line))}
	}
	var errs []error
	for i, item := range n.Content {
		if item = resolved(item); item.Kind != yaml.MappingNode {
			errs = append(errs, fmt.Errorf("%s: namespaces: want a mapping with a name, such as - name: chat", l.at(item.Line)))
			continue
		}
		var o channel.Options
		errs = append(errs, l.namespace(&o, i+1, item)...)
		l.Namespaces = append(l.Namespaces, o)
	}
	return errs
}

// namespace reads a mapping into o, the options of the namespace with that index. Keys may have underscores for dashes.
func (l *Loaded) namespace(o *channel.Options, index int, n *yaml.Node) (errs []error) {
	s := section{line: n.Line, lines: make(map[string]int)}
	names := make([]string, 0, len(channelOptions)+1)
	if index > 0 {
		names = append(names, "name")
	}
	for i := range channelOptions {
		names = append(names, channelOptions[i].name)
	}
	bad := func(line int, option string, err error) {
		errs = append(errs, fmt.Errorf("%s: %w", l.at(line), &channel.Problem{Index: index, Namespace: o.Name, Option: option, Err: err}))
	}
	// The name first: errors have it.
	for i := 0; index > 0 && i+1 < len(n.Content); i += 2 {
		if v := resolved(n.Content[i+1]); n.Content[i].Value == "name" && v.Kind == yaml.ScalarNode && v.ShortTag() != "!!null" {
			o.Name = v.Value
			break
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name, kind, field := channelField(o, strings.ReplaceAll(key.Value, "_", "-"), index > 0)
		if field == nil || key.Kind != yaml.ScalarNode {
			where := keyChannels
			if index > 0 {
				where = fmt.Sprintf("namespace %q", o.Name)
			}
			errs = append(errs, fmt.Errorf("%s: %s: %q is no option of channels%s", l.at(key.Line), where, key.Value, spelling.Hint(key.Value, names, "")))
			continue
		}
		if first, twice := s.lines[name]; twice {
			bad(key.Line, name, fmt.Errorf("it stands in line %d already", first))
			continue
		}
		s.lines[name] = key.Line
		text, err := scalar(kind, value)
		if err == nil {
			err = read(field, text)
		}
		if err != nil {
			bad(key.Line, name, err)
		}
	}
	if index == 0 {
		l.sections[0] = s
	} else {
		l.sections = append(l.sections, s)
	}
	return errs
}

// channelField finds the option that a key means: its name, its type and its place in o, which is nil if there is none.
func channelField(o *channel.Options, key string, named bool) (name, kind string, field any) {
	if key == "name" && named {
		return key, "string", &o.Name
	}
	for i := range channelOptions {
		c := &channelOptions[i]
		switch {
		case key == "allowed-delta-types" && c.also == key:
			return c.name, "list", (*deltas)(&o.AllowDelta)
		case key == c.name || key == c.also && key != "":
			return c.name, c.typ, c.field(o)
		}
	}
	return "", "", nil
}

// checkChannels checks what was read, and that there is somebody for every hook to ask.
func (l *Loaded) checkChannels() (errs []error) {
	add := func(p *channel.Problem) {
		// What is wrong was read from the file: --dev's own is right.
		errs = append(errs, fmt.Errorf("%s: %w", l.at(l.sections[p.Index].lineOf(p.Option)), p))
	}
	_, err := channel.NewRules(l.Channels, l.Namespaces)
	problems := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		problems = joined.Unwrap()
	}
	for _, err := range problems {
		var p *channel.Problem
		switch {
		case errors.As(err, &p):
			add(p)
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", l.File, err))
		}
	}
	for i, o := range append([]channel.Options{l.Channels}, l.Namespaces...) {
		for _, h := range []struct {
			on          bool
			option, url string
			value       string
		}{
			{o.SubscribeHook, "subscribe-hook", "hook-subscribe", l.Serve.HookSubscribe},
			{o.PublishHook, "publish-hook", "hook-publish", l.Serve.HookPublish},
			{o.SubRefreshHook, "sub-refresh-hook", "hook-sub-refresh", l.Serve.HookSubRefresh},
		} {
			if h.on && h.value == "" {
				add(&channel.Problem{Index: i, Namespace: o.Name, Option: h.option, Err: fmt.Errorf("it needs %s, which is empty", h.url)})
			}
		}
	}
	return errs
}

// at is a line of the file.
func (l *Loaded) at(line int) Origin { return Origin{FromFile, fmt.Sprintf("%s:%d", l.File, line)} }

// resolved is what an alias stands for.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// channelsYAML is the options of o that are not off or left to their default, as a mapping.
func channelsYAML(o *channel.Options) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	if o.Name != "" {
		m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "name"}, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: o.Name})
	}
	for i := range channelOptions {
		c := &channelOptions[i]
		text := show(c.field(o))
		if text == show(c.field(new(channel.Options))) {
			continue
		}
		m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: c.name}, &yaml.Node{Kind: yaml.ScalarNode, Value: text})
	}
	if len(m.Content) == 0 {
		m.Style = yaml.FlowStyle // {}
	}
	return m
}
