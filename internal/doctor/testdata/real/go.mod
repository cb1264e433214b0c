module github.com/longwire/longwire/internal/doctor/testdata/real

go 1.26.0

require (
	github.com/allegro/bigcache v1.1.0
	github.com/rcrowley/go-metrics v0.0.0-20161128210544-1f30fe9094a5
)

require github.com/stretchr/testify v1.12.1 // indirect
