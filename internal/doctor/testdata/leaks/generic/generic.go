// Package generic keeps the profile of each visitor.
package generic

import (
	"encoding/json"
	"fmt"

	"github.com/longwire/longwire/internal/doctor/testdata/leaks/shared/store"
)

type profile struct {
	Name  string
	Likes []string
	Raw   json.RawMessage
}

var profiles = store.New[string, *profile]() // in: shared/store

func load(id int) (*profile, error) {
	p := new(profile)
	text := fmt.Sprintf(`{"Name":"visitor %d","Likes":["go","tea","rain"],"Raw":{"a":1,"b":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25],"c":"and some text that says more about the visitor, what was bought, and when"}}`, id)
	return p, json.Unmarshal([]byte(text), p)
}

// Handle answers one request.
func Handle(id int) {
	p, err := load(id)
	if err != nil {
		return
	}
	profiles.Put(p.Name, p)
}
