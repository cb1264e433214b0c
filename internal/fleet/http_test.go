package fleet_test

import (
	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/ws"
)

// asker is a speaker of HTTP.
type asker struct{}

func (*asker) Opened(fleet.Client)                   {}
func (*asker) Heard(fleet.Client, ws.Opcode, []byte) {}
func (*asker) Gone(int)                              {}
func (*asker) Answered(fleet.Client, int)            {}
