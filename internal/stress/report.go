package stress

import (
	"time"

	"github.com/longwire/longwire/internal/avalanche"
)

// Format is what Report.Format says. Within it members are added, and never renamed, moved or given another meaning.
const Format = "longwire-stress/1"

// Report is a whole run: what was asked, what was measured, and what follows from it. Its JSON form is stable. Times are
// in seconds since the run began where their name ends in _s, and in microseconds where it ends in _us; counts are of the
// whole run so far but where a field says otherwise. A part that was not measured is null or left out, never zero.
type Report struct {
	Format      string    `json:"format"`
	Name        string    `json:"name,omitempty"` // that the user gave the run
	Begun       time.Time `json:"begun"`
	Elapsed     float64   `json:"elapsed_s"`
	Interrupted bool      `json:"interrupted,omitempty"` // ended before its time
	Target      string    `json:"target"`
	Address     string    `json:"address"` // that the target's name stood for
	Plan        []string  `json:"plan"`    // what was asked for, a line for each scenario and stage
	Timeout     float64   `json:"timeout_s"`
	Seed        uint64    `json:"seed"`

	Conns     Conns            `json:"conns"`
	Errors    map[string]int64 `json:"errors"` // by kind, all scenarios: conns that failed or were lost, exchanges that failed
	Connect   *Percentiles     `json:"connect,omitempty"`
	TCP       *Percentiles     `json:"tcp,omitempty"` // the part of Connect until the TCP conn stood
	Scenarios []Outcome        `json:"scenarios"`
	Steps     []Step           `json:"steps"`
	Samples   []Sample         `json:"samples"`

	Checks    []Check    `json:"checks,omitempty"` // of the thresholds, over the whole run
	Held      bool       `json:"held"`             // all of them; true without any
	Breaking  *Breaking  `json:"breaking,omitempty"`
	Unit      string     `json:"unit,omitempty"` // of Breaking's levels: conns, or exchanges a second
	Avalanche *Avalanche `json:"avalanche,omitempty"`

	Generator   Generator   `json:"generator"`
	Environment Environment `json:"environment"`
	// Notes are what the reader should know of how the figures came about: what could not be seen and why, limits that
	// were near, loads that were not reached because the generator was late.
	Notes []string `json:"notes,omitempty"`
}

// Conns is what became of the conns.
type Conns struct {
	Wanted    int64   `json:"wanted"` // at the highest
	Attempted int64   `json:"attempted"`
	Opened    int64   `json:"opened"` // handshakes that were completed
	Peak      int64   `json:"peak"`   // open at a time
	Failed    int64   `json:"failed"` // before they stood
	Lost      int64   `json:"lost"`   // after they stood, not by us
	Survived  int64   `json:"survived"`
	Closed    int64   `json:"closed"`            // by us
	Rate      float64 `json:"opened_per_second"` // while there were some to open
}

// Outcome is what came of one scenario.
type Outcome struct {
	Name     string           `json:"name"`
	Kind     Kind             `json:"kind"`
	Protocol Protocol         `json:"protocol,omitempty"`
	Model    Model            `json:"model,omitempty"`
	Conns    Conns            `json:"conns"`
	Errors   map[string]int64 `json:"errors"`
	// Of exchanges: HTTP requests, messages and their echoes, commands and their replies, publications. Due is how many
	// the plan asked for in the open model.
	Due     int64   `json:"due,omitempty"`
	Sent    int64   `json:"sent"`
	Done    int64   `json:"done"`
	Failed  int64   `json:"failed"` // with an error or without an answer
	Rate    float64 `json:"done_per_second"`
	BytesIn int64   `json:"bytes_in"`
	// Latency is nil where nothing was timed. Marks are the points of its percentile plot.
	Latency        *Latencies `json:"latency,omitempty"`
	CorrectedMarks []Mark     `json:"corrected_marks,omitempty"`
	ServiceMarks   []Mark     `json:"service_marks,omitempty"`
	// Of publish: deliveries to subscribers, Missing of those that should have been.
	Delivered int64 `json:"delivered,omitempty"`
	Missing   int64 `json:"missing,omitempty"`
	// Of http: requests for each conn that was opened.
	Reuse float64 `json:"reuse,omitempty"`
	Storm []Storm `json:"storms,omitempty"`
	// Of halfopen: how long it took the server to end a conn that had stopped to answer.
	Detection *Percentiles `json:"detection,omitempty"`
}

// Storm is one reconnect storm.
type Storm struct {
	At  float64 `json:"t_s"`
	Cut int64   `json:"cut"`
	// Recovered is how long it took until as many conns stood as before; nil if they did not before the next storm or the end.
	Recovered *float64 `json:"recovered_s"`
	Failed    int64    `json:"failed"` // attempts meanwhile
}

// Step is a stretch of the run at one level, or on the way from one to another.
type Step struct {
	Stage   string    `json:"stage"` // ramp, step, spike, soak, find
	Begin   float64   `json:"begin_s"`
	End     float64   `json:"end_s"`
	Conns   int64     `json:"conns"`                     // wanted, at its end
	Rate    float64   `json:"rate,omitempty"`            // exchanges a second that were due, at its end
	Open    int64     `json:"open"`                      // conns, at its end
	Done    float64   `json:"done_per_second,omitempty"` // exchanges
	Errors  int64     `json:"errors"`                    // in it
	Latency *Quantile `json:"latency,omitempty"`         // in it, corrected
	Connect *Quantile `json:"connect,omitempty"`
	Broken  bool      `json:"broken,omitempty"`
	Why     string    `json:"why,omitempty"`
}

// Quantile is a distribution in few figures, for a stretch of time.
type Quantile struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_us"`
	P90   float64 `json:"p90_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p999_us"`
	Max   float64 `json:"max_us"`
}

// Sample is the run at one moment, about once a second. Latencies are of the time since the sample before.
type Sample struct {
	At        float64          `json:"t_s"`
	Stage     string           `json:"stage"`
	Wanted    int64            `json:"wanted"` // conns
	Open      int64            `json:"open"`
	Pending   int64            `json:"pending"`
	Attempted int64            `json:"attempted"`
	Opened    int64            `json:"opened"`
	Failed    int64            `json:"failed"`
	Lost      int64            `json:"lost"`
	Rate      float64          `json:"rate,omitempty"` // exchanges a second that are due now
	Sent      int64            `json:"sent"`
	Done      int64            `json:"done"`
	Delivered int64            `json:"delivered,omitempty"`
	BytesIn   int64            `json:"bytes_in"`
	Errors    map[string]int64 `json:"errors,omitempty"`
	Latency   *Quantile        `json:"latency,omitempty"`
	Service   *Quantile        `json:"service,omitempty"`
	Connect   *Quantile        `json:"connect,omitempty"`
	Kernel    *KernelSample    `json:"kernel,omitempty"`
	Queue     *QueueSample     `json:"accept_queue,omitempty"`
	Server    *TargetSample    `json:"server,omitempty"`
	CPU       float64          `json:"generator_cpu_s"`
	Resident  int64            `json:"generator_rss_bytes"`
}

// KernelSample is the counters of the server's network namespace, or of the clients' where the server's is out of sight.
// Counters begin at 0 with the run; gauges are as they are.
type KernelSample struct {
	Clients          bool   `json:"clients,omitempty"` // it is the clients' namespace, and the server's is another
	SynRetrans       uint64 `json:"syn_retransmits"`
	RetransSegs      uint64 `json:"retransmits"`
	Timeouts         uint64 `json:"timeouts"`
	ListenOverflows  uint64 `json:"listen_overflows"`
	ListenDrops      uint64 `json:"listen_drops"`
	SynQueueDrops    uint64 `json:"syn_queue_drops"`
	AttemptFails     uint64 `json:"attempt_fails"`
	EstabResets      uint64 `json:"resets"`
	OutResets        uint64 `json:"resets_sent"`
	MemoryPressures  uint64 `json:"memory_pressures"`
	AbortsOnMemory   uint64 `json:"aborts_on_memory"`
	TimeWaitOverflow uint64 `json:"time_wait_overflows"`
	// Gauges.
	Established uint64 `json:"established"`
	TimeWait    uint64 `json:"time_wait"`
	Orphans     uint64 `json:"orphans"`
	MemoryBytes uint64 `json:"tcp_memory_bytes"`
}

// QueueSample is the fullest accept queue of the target's listeners.
type QueueSample struct {
	Length int64 `json:"length"`
	Limit  int64 `json:"limit"`
}

// TargetSample is the server's process, and what its /metrics say where it has them.
type TargetSample struct {
	Resident    uint64   `json:"rss_bytes,omitempty"`
	CPU         float64  `json:"cpu_s,omitempty"`
	Descriptors int64    `json:"descriptors,omitempty"`
	Goroutines  *float64 `json:"goroutines,omitempty"`
	Heap        *float64 `json:"heap_bytes,omitempty"`
	GCs         *float64 `json:"gcs,omitempty"`        // collections since the server began
	GCPause     *float64 `json:"gc_pause_s,omitempty"` // the longest of the last ones
}

// Avalanche is the chain of what happened when a step broke.
type Avalanche struct {
	Step       int                  `json:"step"` // index in Steps; -1 when none broke
	FirstCause avalanche.Cause      `json:"first_cause"`
	Text       string               `json:"text"` // the first cause in words
	Confidence avalanche.Confidence `json:"confidence"`
	Why        string               `json:"why"`
	Lift       string               `json:"lift,omitempty"`
	Chain      []Link               `json:"chain"`
}

// Link is one link of the chain.
type Link struct {
	At     float64 `json:"t_s"`
	What   string  `json:"what"`
	Figure string  `json:"figure"`
}

// Generator is what the load cost on this side.
type Generator struct {
	CPU         float64 `json:"cpu_s"`
	Resident    int64   `json:"rss_bytes"`       // at its highest
	PerConn     float64 `json:"bytes_per_conn"`  // resident memory beyond that before the first conn, at the most conns
	CPUPerConn  float64 `json:"cpu_us_per_conn"` // until all stood; 0 where there were exchanges as well
	Late        int64   `json:"late"`            // exchanges that were sent more than a millisecond after they were due, with a conn free for them
	Loops       int     `json:"loops"`
	SourceAddrs int     `json:"source_addrs"`
}

// Environment is where the run took place.
type Environment struct {
	Version     string  `json:"version"` // of Longwire
	Go          string  `json:"go"`
	Kernel      string  `json:"kernel"`
	CPUs        int     `json:"cpus"`
	CPU         string  `json:"cpu_model,omitempty"`
	Memory      uint64  `json:"memory_bytes,omitempty"`
	Descriptors uint64  `json:"descriptors"`
	Somaxconn   uint64  `json:"somaxconn,omitempty"`
	PortFirst   uint64  `json:"port_first,omitempty"`
	PortLast    uint64  `json:"port_last,omitempty"`
	Load        float64 `json:"load_average"` // of the last minute, when the run began
	Local       bool    `json:"server_on_this_machine"`
}
