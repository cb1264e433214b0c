package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	verify "github.com/longwire/longwire/internal/token"
)

// TestToken has the server's own verifier take what clients connect with.
func TestToken(t *testing.T) {
	v, err := verify.New(verify.Options{HMACSecret: []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for n, user := range map[int]string{0: "user0", 999_999: "user999999", -1: "user-1"} {
		b := token([]byte("before "), n)
		c, err := v.Connect(t.Context(), b[len("before "):])
		if err != nil || c.User != user || time.Until(time.Unix(c.ExpireAt, 0)) < time.Hour {
			t.Errorf("token of %d: %+v, %v, want %s", n, c, err, user)
		}
	}
}

func TestData(t *testing.T) {
	for _, size := range []int{0, 128, 1000} {
		s := data(5*time.Second, size)
		var v struct {
			T    time.Duration
			Text string
		}
		if err := json.Unmarshal([]byte(s), &v); err != nil || v.T != 5*time.Second {
			t.Errorf("%s: %+v, %v", s, v, err)
		}
		if size > 100 && (len(s) < size-10 || len(s) > size+10) {
			t.Errorf("%d bytes, want about %d", len(s), size)
		}
	}
}

func TestMedian(t *testing.T) {
	if m := median([]float64{9, 1, 5}); m != 5 {
		t.Errorf("median is %v, want 5", m)
	}
	if m := median([]float64{4, 1, 9, 2}); m != 3 {
		t.Errorf("median is %v, want 3", m)
	}
}

// TestReportFailed has a part that fails take its figures with it.
func TestReportFailed(t *testing.T) {
	r := newReport()
	r.add(row{Part: "a", Figure: "kept", Value: "1", Reached: reached(true)})
	r.add(row{Part: "b", Figure: "gone", Value: "2", Reached: reached(true)})
	r.failed("b", errors.New("it went wrong"))
	if len(r.Rows) != 1 || r.Rows[0].Figure != "kept" || len(r.Failed) != 1 {
		t.Errorf("rows %+v, failed %+v", r.Rows, r.Failed)
	}
	name := t.TempDir() + "/report.json"
	if err := r.write(&options{json: name}); err == nil || !strings.Contains(err.Error(), "b: FAILED") {
		t.Errorf("write: %v, want that b failed", err)
	}
}
