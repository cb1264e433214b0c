package cli

import (
	"context"
	"time"

	"github.com/longwire/longwire/internal/config"
	"github.com/longwire/longwire/internal/profile"
)

// openCaptures opens the captures that profile-dir asks for; nil without it.
func (s *server) openCaptures(o *config.Serve) (*profile.Watch, error) {
	if o.ProfileDir == "" {
		return nil, nil
	}
	w, err := profile.Open(profile.Options{
		Dir: o.ProfileDir, MaxBytes: int64(o.ProfileBytes), Jump: float64(o.ProfileRSSJump) / 100,
		Pause: time.Duration(o.ProfilePause), Trace: time.Duration(o.ProfileTrace),
		Iterations: func() []uint64 {
			g := s.made.Load()
			if g == nil {
				return nil
			}
			i := g.Stats().Iterations
			return i[:]
		},
		Gateway: func() any {
			if g := s.made.Load(); g != nil {
				return g.Stats()
			}
			return nil
		},
		Version: readBuild().Version, Log: s.log,
	})
	if err != nil {
		return nil, &exitError{code: exitFailed, err: err, hint: "longwire config describes profile-dir; without it nothing is captured"}
	}
	return w, nil
}

// capture captures until the returned function is called.
func (s *server) capture() (stop func()) {
	if s.captures == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.captures.Run(ctx)
	}()
	return func() {
		cancel()
		<-over
		s.closeCaptures()
	}
}

func (s *server) closeCaptures() {
	if s.captures == nil {
		return
	}
	if err := s.captures.Close(); err != nil {
		s.log.Warn("captures", "error", err)
	}
}
