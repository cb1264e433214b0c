// Command dbpool is small services on a PostgreSQL database, each of which uses its pool in another way. What a test wants named is
// marked LEAK and the service's name.
package main

import (
	"context"
	"database/sql"
	"expvar"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
)

// every runs a function of its own goroutine each interval, at most so many at a time.
func every(interval time.Duration, most int, f func(i int)) {
	slots := make(chan struct{}, most)
	t := time.NewTicker(interval)
	for i := 0; ; i++ {
		<-t.C
		select {
		case slots <- struct{}{}:
			go func() {
				defer func() { <-slots }()
				f(i)
			}()
		default:
		}
	}
}

func open(source string, most int) *sql.DB {
	db, err := sql.Open("pgx", source)
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(most)
	expvar.Publish("db", expvar.Func(func() any { return db.Stats() }))
	return db
}

// firstName reads one row of many and forgets the rest.
func firstName(db *sql.DB) (name string, err error) {
	rows, err := db.Query("select n::text from generate_series(1, 50) n") // LEAK rows
	if err != nil {
		return "", err
	}
	if rows.Next() {
		err = rows.Scan(&name)
	}
	return name, err
}

func rows(source string) {
	db := open(source, 8)
	every(50*time.Millisecond, 40, func(int) { _, _ = firstName(db) })
}

// slowReport asks for more than the pool can give at a time.
func slowReport(db *sql.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, err := db.ExecContext(ctx, "select pg_sleep(0.15)")
	return err
}

func slow(source string) {
	db := open(source+" statement_timeout=300", 3) // LEAK slow
	every(5*time.Millisecond, 60, func(int) { _ = slowReport(db) })
}

func quick(source string) {
	db := open(source, 10)
	every(10*time.Millisecond, 5, func(int) {
		var n int
		_ = db.QueryRow("select 1 from pg_sleep(0.002)").Scan(&n)
	})
}

func pool(source string) *pgxpool.Pool {
	c, err := pgxpool.ParseConfig(source)
	if err != nil {
		panic(err)
	}
	c.MaxConns = 6
	p, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		panic(err)
	}
	expvar.Publish("pgx", expvar.Func(func() any {
		s := p.Stat()
		return map[string]any{
			"max_conns": s.MaxConns(), "total_conns": s.TotalConns(), "acquired_conns": s.AcquiredConns(), "idle_conns": s.IdleConns(), "acquire_count": s.AcquireCount(),
			"empty_acquire_count": s.EmptyAcquireCount(), "canceled_acquire_count": s.CanceledAcquireCount(), "empty_acquire_wait_time": s.EmptyAcquireWaitTime(),
		}
	}))
	return p
}

// lookUp gives its connection back, but not where there is nothing to be found.
func lookUp(p *pgxpool.Pool, i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	conn, err := p.Acquire(ctx) // LEAK acquire
	if err != nil {
		return err
	}
	var found bool
	if err := conn.QueryRow(ctx, "select $1 % 10 <> 0", i).Scan(&found); err != nil || !found {
		return err
	}
	conn.Release()
	return nil
}

func acquire(source string) {
	p := pool(source)
	every(5*time.Millisecond, 40, func(i int) { _ = lookUp(p, i) })
}

func main() {
	services := map[string]func(string){"rows": rows, "slow": slow, "quick": quick, "acquire": acquire}
	if len(os.Args) != 3 || services[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: dbpool SERVICE SOURCE")
		os.Exit(2)
	}
	go services[os.Args[1]](os.Args[2])
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(ln.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(ln, nil))
	os.Exit(1)
}
