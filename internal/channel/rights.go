package channel

// MaySubscribe reports whether user may subscribe to the channel, one of o's, without a token and without a hook being
// asked. An empty user is anonymous. A token for the channel is a right of its own and is not this method's affair.
func (o *Options) MaySubscribe(channel []byte, user string) bool {
	switch {
	case Private(channel) || !AllowsUser(channel, user):
		return false
	case o.UserLimited && UserLimited(channel):
		return true
	}
	return o.SubscribeForClient && (user != "" || o.SubscribeForAnonymous)
}

// MayPublish reports whether a client may publish to a channel of o; subscribed is whether it is subscribed to it.
func (o *Options) MayPublish(anonymous, subscribed bool) bool {
	return may(o.PublishForClient, o.PublishForSubscriber, o.PublishForAnonymous, anonymous, subscribed)
}

// MayPresence reports whether a client may ask who is there. Whether anything is kept to answer with is o.Presence.
func (o *Options) MayPresence(anonymous, subscribed bool) bool {
	return may(o.PresenceForClient, o.PresenceForSubscriber, o.PresenceForAnonymous, anonymous, subscribed)
}

// MayHistory reports whether a client may read history. Whether there is any is o.KeepsHistory.
func (o *Options) MayHistory(anonymous, subscribed bool) bool {
	return may(o.HistoryForClient, o.HistoryForSubscriber, o.HistoryForAnonymous, anonymous, subscribed)
}

// MayJoinLeave reports whether a subscriber that asks for joins and leaves is told of them: they say what presence
// says. With ForceJoinLeave nobody has to ask.
func (o *Options) MayJoinLeave(anonymous bool) bool {
	return o.JoinLeave && o.MayPresence(anonymous, true)
}

// MayRecover reports whether a subscription that asks to be recoverable is. Whoever may read history may.
func (o *Options) MayRecover(anonymous bool) bool {
	return o.KeepsHistory() && (o.ForceRecovery || o.AllowRecovery || o.MayHistory(anonymous, true))
}

// MayPosition reports whether a subscription that asks to be positioned is. Whoever may read history may.
func (o *Options) MayPosition(anonymous bool) bool {
	return o.KeepsHistory() && (o.ForcePositioning || o.AllowPositioning || o.MayHistory(anonymous, true))
}

func may(forClient, forSubscriber, forAnonymous, anonymous, subscribed bool) bool {
	return (forClient || forSubscriber && subscribed) && (!anonymous || forAnonymous)
}
