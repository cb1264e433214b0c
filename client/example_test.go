package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/client"
	"github.com/longwire/longwire/ws"
)

// serve starts a gateway that sends back what it gets, and returns its address.
func serve() (*longwire.Gateway, string) {
	g, err := longwire.New(longwire.Config{
		Addr: "localhost:0",
		Endpoints: []longwire.Endpoint{{
			Path:        "/echo",
			Compression: true,
			OnMessage:   func(_ longwire.Conn, m longwire.Message) { m.Reply(m.Op, m.Payload) },
		}},
	})
	if err != nil {
		panic(err)
	}
	if err := g.Start(); err != nil {
		panic(err)
	}
	return g, g.Addr().String()
}

// Nil options keep the line by pings of RFC 6455, and come back when it is lost.
func ExampleDial() {
	g, addr := serve()
	defer g.Close()
	ctx := context.Background()
	c, err := client.Dial(ctx, "ws://"+addr+"/echo", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := c.Write(ctx, ws.OpText, []byte("hello")); err != nil {
		fmt.Println(err)
	}
	_, message, err := c.Read(ctx)
	fmt.Println(string(message), err)
	fmt.Println(c.Close(ctx, ws.StatusNormalClosure, ""))
	// Output:
	// hello <nil>
	// <nil>
}

// Every transition has a reason.
func ExampleOptions() {
	g, addr := serve()
	defer g.Close()
	ctx := context.Background()
	c, err := client.Dial(ctx, "ws://"+addr+"/echo", &client.Options{
		OnState: func(t client.Transition) { fmt.Println(t.From, "→", t.To, "because of", t.Reason) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = c.Close(ctx, ws.StatusNormalClosure, "")
	var end *client.CloseError
	_, _, err = c.Read(ctx)
	fmt.Println(errors.As(err, &end), end.Code)
	// Output:
	// connecting → connecting because of start
	// connecting → idle because of open
	// idle → closing because of shut
	// closing → closed because of close 1000
	// true 1000 normal closure
}

// A context ends the call that it is given to, not the connection: what comes later is there for the next Read.
func ExampleConn_Read() {
	g, addr := serve()
	defer g.Close()
	ctx := context.Background()
	c, err := client.Dial(ctx, "ws://"+addr+"/echo", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	patience, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	_, _, err = c.Read(patience) // nobody has sent anything
	fmt.Println(err)
	if err := c.Write(ctx, ws.OpText, []byte("still here")); err != nil {
		fmt.Println(err)
	}
	_, message, err := c.Read(ctx)
	fmt.Println(string(message), err)
	_ = c.Close(ctx, ws.StatusNormalClosure, "")
	// Output:
	// client: read: context deadline exceeded
	// still here <nil>
}

// A program that watches its network tells all its connections at once. They try nothing while there is none, and ask
// the connections that have outlived it as soon as it is back.
func ExampleNetwork() {
	g, addr := serve()
	defer g.Close()
	ctx := context.Background()
	var network client.Network
	transitions := make(chan client.Transition, 10)
	c, err := client.Dial(ctx, "ws://"+addr+"/echo", &client.Options{
		Network: &network,
		OnState: func(t client.Transition) { transitions <- t },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	network.SetOnline(false)
	network.SetOnline(true)
	for range 4 {
		t := <-transitions
		fmt.Println(t.From, "→", t.To)
	}
	fmt.Println("open:", c.Open())
	_ = c.Close(ctx, ws.StatusNormalClosure, "")
	// Output:
	// connecting → connecting
	// connecting → idle
	// idle → offline
	// offline → waiting-pong
	// open: true
}
