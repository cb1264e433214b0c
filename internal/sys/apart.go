package sys

import "errors"

// ErrApart says that a network namespace of one's own is refused.
var ErrApart = errors.New("a network namespace of its own is refused")
