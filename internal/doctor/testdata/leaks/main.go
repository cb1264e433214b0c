// Command leaks is the programs that the doctor is tested on: each a small service in a package of its own. The line to be found
// is marked LEAK; packages that begin with ok are healthy. A request to /work?n=100 has the chosen one handle 100 of its own.
package main

import (
	"expvar"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime/metrics"
	"strconv"

	"github.com/longwire/longwire/internal/doctor/testdata/leaks/chanrecv"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/chansend"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/closewait"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/closure"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/contended"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/ctxchild"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/ctxwait"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/events"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/files"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/finalizercycle"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/finalizerslow"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/finalizerstuck"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/fragments"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/generic"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/globalcache"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/history"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/lock"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/lockchan"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/mapgrows"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/mmapped"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/noaccept"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/nokeepalive"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/okburst"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/okclients"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/okcontended"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/okcoupon"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/okdeep"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/okexpiry"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/okfinalizer"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/okidle"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/okpool"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/okpoolpaths"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/okring"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/oksawtooth"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/okwarming"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/okworkers"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/pending"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/poolempty"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/poolresidue"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/queue"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/respbody"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/rows"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/selectloop"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/shared/peer"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/silent"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/slicearray"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/stacks"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/substring"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/ticker"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/timer"
	"github.com/longwire/longwire/internal/doctor/testdata/leaks/waitgroup"
)

var programs = map[string]func(int){
	"chanrecv":       chanrecv.Handle,
	"chansend":       chansend.Handle,
	"closewait":      closewait.Handle,
	"closure":        closure.Handle,
	"contended":      contended.Handle,
	"ctxchild":       ctxchild.Handle,
	"ctxwait":        ctxwait.Handle,
	"events":         events.Handle,
	"files":          files.Handle,
	"finalizercycle": finalizercycle.Handle,
	"finalizerslow":  finalizerslow.Handle,
	"finalizerstuck": finalizerstuck.Handle,
	"fragments":      fragments.Handle,
	"generic":        generic.Handle,
	"globalcache":    globalcache.Handle,
	"history":        history.Handle,
	"lock":           lock.Handle,
	"lockchan":       lockchan.Handle,
	"mapgrows":       mapgrows.Handle,
	"mmapped":        mmapped.Handle,
	"noaccept":       noaccept.Handle,
	"nokeepalive":    nokeepalive.Handle,
	"okburst":        okburst.Handle,
	"okclients":      okclients.Handle,
	"okcontended":    okcontended.Handle,
	"okcoupon":       okcoupon.Handle,
	"okdeep":         okdeep.Handle,
	"okexpiry":       okexpiry.Handle,
	"okfinalizer":    okfinalizer.Handle,
	"okidle":         okidle.Handle,
	"okpool":         okpool.Handle,
	"okpoolpaths":    okpoolpaths.Handle,
	"okring":         okring.Handle,
	"oksawtooth":     oksawtooth.Handle,
	"okwarming":      okwarming.Handle,
	"okworkers":      okworkers.Handle,
	"pending":        pending.Handle,
	"poolempty":      poolempty.Handle,
	"poolresidue":    poolresidue.Handle,
	"queue":          queue.Handle,
	"respbody":       respbody.Handle,
	"rows":           rows.Handle,
	"selectloop":     selectloop.Handle,
	"silent":         silent.Handle,
	"slicearray":     slicearray.Handle,
	"stacks":         stacks.Handle,
	"substring":      substring.Handle,
	"ticker":         ticker.Handle,
	"timer":          timer.Handle,
	"waitgroup":      waitgroup.Handle,
}

// queues are what the runtime counts of finalizers and cleanups, by its own names.
func queues() any {
	figures := map[string]uint64{}
	for _, kind := range []string{"finalizers", "cleanups"} {
		for _, what := range []string{"queued", "executed"} {
			s := []metrics.Sample{{Name: "/gc/" + kind + "/" + what + ":" + kind}}
			if metrics.Read(s); s[0].Value.Kind() == metrics.KindUint64 {
				figures[s[0].Name] = s[0].Value.Uint64()
			}
		}
	}
	return figures
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == peer.Argument {
		peer.Run(os.Args[2])
		return
	}
	if len(os.Args) != 2 || programs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: leaks NAME")
		os.Exit(2)
	}
	handle := programs[os.Args[1]]
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	expvar.Publish("runtime", expvar.Func(queues))
	next := 0
	http.HandleFunc("/work", func(w http.ResponseWriter, r *http.Request) {
		// One client asks, one request at a time.
		n, _ := strconv.Atoi(r.FormValue("n"))
		for range n {
			handle(next)
			next++
		}
	})
	fmt.Println(ln.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(ln, nil))
}
