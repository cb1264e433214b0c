//go:build !linux

package lab

import (
	"context"
	"fmt"
	"io"

	"github.com/longwire/longwire/internal/stress"
	"github.com/longwire/longwire/internal/sys"
)

// Run answers ErrUnsupported on this system.
func Run(context.Context, Experiment, Again, io.Writer) (*stress.Report, error) {
	return nil, fmt.Errorf("experiments need the network namespaces of Linux: %w", sys.ErrUnsupported)
}

// Play answers ErrUnsupported on this system.
func Play(context.Context, Part, Experiment, Again, io.Reader, io.Writer, io.Writer, func(stress.Sample)) error {
	return fmt.Errorf("experiments need the network namespaces of Linux: %w", sys.ErrUnsupported)
}
