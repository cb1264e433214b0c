package stress

import (
	"io/fs"
	"os"
)

// memoryRoot is where the system's memory is read from.
var memoryRoot fs.FS = os.DirFS("/")
