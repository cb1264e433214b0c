package profile

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"runtime/pprof"
	"strconv"
	"time"

	"github.com/google/pprof/profile"
)

// longestDelta bounds the time between the two profiles of a difference.
const longestDelta = time.Hour

// serveHeapDelta serves what the heap gained and lost in a time, with a collection before each of the two profiles: without
// it a profile is as old as the last collection, and garbage counts as memory in use.
func serveHeapDelta(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	n, err := strconv.ParseInt(r.FormValue("seconds"), 10, 32)
	d := time.Duration(n) * time.Second
	if err != nil || d <= 0 || d > longestDelta || r.FormValue("debug") != "" && r.FormValue("debug") != "0" {
		http.Error(w, fmt.Sprintf("seconds=%q: want a whole number from 1 to %d, and no debug", r.FormValue("seconds"), int(longestDelta.Seconds())), http.StatusBadRequest)
		return
	}
	// A server that bounds its answers' time makes an exception; one that cannot does not bound it.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d + time.Minute))
	p, err := heapDelta(r.Context(), d)
	if err != nil {
		if r.Context().Err() == nil { // else nobody waits for it
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="heap-delta.pb.gz"`)
	_ = p.Write(w)
}

// heapDelta is the heap's profile after d less that of now.
func heapDelta(ctx context.Context, d time.Duration) (*profile.Profile, error) {
	before, err := heapProfile()
	if err != nil {
		return nil, err
	}
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	after, err := heapProfile()
	if err != nil {
		return nil, err
	}
	before.Scale(-1)
	p, err := profile.Merge([]*profile.Profile{before, after})
	if err != nil {
		return nil, fmt.Errorf("difference of two heap profiles: %w", err)
	}
	p.TimeNanos, p.DurationNanos = after.TimeNanos, after.TimeNanos-before.TimeNanos
	return p, nil
}

func heapProfile() (*profile.Profile, error) {
	runtime.GC()
	var b bytes.Buffer
	if err := pprof.Lookup("heap").WriteTo(&b, 0); err != nil {
		return nil, fmt.Errorf("heap profile: %w", err)
	}
	p, err := profile.Parse(&b)
	if err != nil {
		return nil, fmt.Errorf("heap profile: %w", err)
	}
	return p, nil
}
