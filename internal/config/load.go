package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/spelling"
)

// envPrefix begins the names of our environment variables.
const envPrefix = "LONGWIRE_"

// EnvConfig is the environment variable that names the file; the flag is --config.
const EnvConfig = envPrefix + "CONFIG"

// EnvName is the environment variable of the option called name: LONGWIRE_MAX_CONNS for max-conns.
func EnvName(name string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Origin is where an option's value came from.
type Origin struct {
	Kind  OriginKind
	Where string // the flag, the variable, or the file and line
}

// OriginKind is a layer; a later one wins.
type OriginKind uint8

// The layers.
const (
	FromDefault OriginKind = iota
	FromFile
	FromEnv
	FromFlag
)

// String says it in a word or a place.
func (o Origin) String() string {
	switch {
	case o.Where != "":
		return o.Where
	case o.Kind == FromDefault:
		return "default"
	}
	return "unknown"
}

// Input is all that options are taken from.
type Input struct {
	Flags   Serve    // values of the flags that Given names
	Given   []string // names of the options that were given as flags
	File    string   // the file that --config names; empty means LONGWIRE_CONFIG, or none
	Environ []string // NAME=value, as os.Environ gives them
	Read    func(string) ([]byte, error)
	Extra   map[string]string // environment variables of ours that are no options, by name
}

// Loaded is what came of an Input.
type Loaded struct {
	Serve      Serve
	Channels   channel.Options   // of channels without a namespace, as the file or --dev says: channel.NewRules fills in defaults
	Namespaces []channel.Options // of the namespaces, in the order of the file
	Origins    map[string]Origin // of every option, by name, and of the sections channels and namespaces
	File       string            // that was read, or empty
	Warnings   []string          // of what is ignored

	sections []section // where Channels and then Namespaces stand in the file; in front a zero one where Channels do not
}

// Load puts flag over environment over file over default. Its error names, for every wrong value or key, where
// it stands; all of them are joined.
func Load(in Input) (Loaded, error) {
	l := Loaded{Serve: Default(), Origins: make(map[string]Origin), File: in.File, sections: make([]section, 1)}
	for _, o := range options {
		l.Origins[o.Name] = Origin{}
	}
	l.Origins[keyChannels], l.Origins[keyNamespaces] = Origin{}, Origin{}
	env := make(map[string]string)
	for _, kv := range in.Environ {
		if name, value, ok := strings.Cut(kv, "="); ok && value != "" && strings.HasPrefix(name, envPrefix) {
			env[name] = value
		}
	}
	if l.File == "" {
		l.File = env[EnvConfig]
	}
	var errs []error
	if l.File != "" {
		errs = append(errs, l.file(in.Read)...)
	}
	errs = append(errs, l.environment(env, in.Extra)...)
	for _, o := range options {
		if slices.Contains(in.Given, o.Name) {
			o.copy(&l.Serve, &in.Flags)
			l.Origins[o.Name] = Origin{FromFlag, "--" + o.Name}
		}
	}
	l.derive()
	if len(errs) == 0 {
		for _, o := range options {
			if o.check == nil {
				continue
			}
			if err := o.check(&l.Serve); err != nil {
				errs = append(errs, o.wrong(l.Origins[o.Name], err))
			}
		}
		errs = append(errs, l.checkChannels()...)
	}
	return l, errors.Join(errs...)
}

// derive sets what follows from other options where it was not given itself.
func (l *Loaded) derive() {
	given := func(name string) bool { return l.Origins[name].Kind != FromDefault }
	for _, name := range l.Serve.derive(given) {
		l.Origins[name] = Origin{FromDefault, "derived"}
	}
	if l.Serve.Dev && !given(keyChannels) {
		l.Channels = devChannels
		l.Origins[keyChannels] = Origin{FromDefault, "derived"}
	}
}

// wrong names the place of a wrong value.
func (o *Option) wrong(at Origin, err error) error {
	if at.Kind == FromFile {
		return fmt.Errorf("%s: %s: %w", at, o.Name, err)
	}
	return fmt.Errorf("%s: %w", at, err)
}

// set reads text into the option's field of s.
func (o *Option) set(s *Serve, text string) error {
	p := o.field(s)
	if l, ok := p.(*List); ok && text == "" && o.Default == "" {
		*l = nil // as it is when nothing is given
		return nil
	}
	return read(p, text)
}

// text is the value of the option in s, as set reads it; but of a secret only that there is one.
func (o *Option) text(s *Serve) string { return show(o.field(s)) }

// copy takes the option's value over from another Serve.
func (o *Option) copy(to, from *Serve) {
	reflect.ValueOf(o.field(to)).Elem().Set(reflect.ValueOf(o.field(from)).Elem())
}

// read reads text into what p points to, a field of Serve or of channel.Options.
func read(p any, text string) error {
	switch p := p.(type) {
	case *string:
		*p = text
		return nil
	case *bool:
		v, err := parseSwitch(text)
		if err == nil {
			*p = v
		}
		return err
	case *List:
		*p = nil // reading appends
		return p.UnmarshalText([]byte(text))
	case encoding.TextUnmarshaler:
		return p.UnmarshalText([]byte(text))
	}
	panic(fmt.Sprintf("config: a field of no known type, %T", p))
}

// show is what p points to as read reads it.
func show(p any) string {
	switch p := p.(type) {
	case *string:
		return *p
	case *bool:
		return fmt.Sprint(*p)
	case fmt.Stringer:
		return p.String()
	}
	panic(fmt.Sprintf("config: a field of no known type, %T", p))
}

func option(name string) (*Option, bool) {
	for i := range options {
		if options[i].Name == name {
			return &options[i], true
		}
	}
	return nil, false
}

// environment takes what the environment has.
func (l *Loaded) environment(env, extra map[string]string) (errs []error) {
	known := make([]string, 0, len(options)+1)
	for i := range options {
		o := &options[i]
		name := EnvName(o.Name)
		known = append(known, name)
		text, ok := env[name]
		if !ok {
			continue
		}
		at := Origin{FromEnv, name}
		if err := o.set(&l.Serve, text); err != nil {
			errs = append(errs, o.wrong(at, err))
		}
		l.Origins[o.Name] = at
	}
	known = append(known, EnvConfig)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if _, ok := extra[name]; ok || slices.Contains(known, name) {
			continue
		}
		l.Warnings = append(l.Warnings, fmt.Sprintf("environment variable %s is no option%s", name, spelling.Hint(name, known, envPrefix)))
	}
	return errs
}

// file takes what the file has.
func (l *Loaded) file(read func(string) ([]byte, error)) []error {
	b, err := read(l.File)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return []error{fmt.Errorf("%s: %w", l.File, err)}
	}
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(b))
	switch err := d.Decode(&doc); {
	case err == nil:
		if d.Decode(new(yaml.Node)) != io.EOF {
			return []error{fmt.Errorf("%s: more than one document: want one", l.File)}
		}
	case err != io.EOF:
		// "yaml: line 3: …" → "FILE:3: …"
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		if rest, ok := strings.CutPrefix(text, "line "); ok {
			return []error{fmt.Errorf("%s:%s", l.File, rest)}
		}
		return []error{fmt.Errorf("%s: %s", l.File, text)}
	}
	if len(doc.Content) == 0 {
		return nil // empty, or comments only
	}
	top := doc.Content[0]
	if top.Kind == yaml.ScalarNode && top.ShortTag() == "!!null" {
		return nil
	}
	if top.Kind != yaml.MappingNode {
		return []error{fmt.Errorf("%s:%d: want a mapping of options to values, such as max-conns: 1000000", l.File, top.Line)}
	}
	return l.mapping(top)
}

func (l *Loaded) mapping(top *yaml.Node) (errs []error) {
	names := make([]string, 0, len(options)+2)
	for _, o := range options {
		names = append(names, o.Name)
	}
	names = append(names, keyChannels, keyNamespaces)
	lines := make(map[string]int)
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		at := l.at(key.Line)
		if section := key.Value; section == keyChannels || section == keyNamespaces {
			if line, twice := lines[section]; twice {
				errs = append(errs, fmt.Errorf("%s: %s: it stands in line %d already", at, section, line))
				continue
			}
			lines[section] = key.Line
			l.Origins[section] = at
			errs = append(errs, l.channels(section, value)...)
			continue
		}
		o, ok := option(key.Value)
		if !ok || key.Kind != yaml.ScalarNode {
			errs = append(errs, fmt.Errorf("%s: %q is no option%s", at, key.Value, spelling.Hint(key.Value, names, "")))
			continue
		}
		if line, twice := lines[o.Name]; twice {
			errs = append(errs, o.wrong(at, fmt.Errorf("it stands in line %d already", line)))
			continue
		}
		lines[o.Name] = key.Line
		text, err := scalar(o.Type, value)
		if err == nil {
			err = o.set(&l.Serve, text)
		}
		if err != nil {
			errs = append(errs, o.wrong(at, err))
		}
		l.Origins[o.Name] = at
	}
	return errs
}

// scalar is the text of a value of that type; a sequence is a list's.
func scalar(kind string, n *yaml.Node) (string, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.ScalarNode:
		if n.ShortTag() == "!!null" {
			return "", errors.New("it has no value")
		}
		return n.Value, nil
	case yaml.SequenceNode:
		if kind != "list" {
			return "", fmt.Errorf("it is a list: want one %s", kind)
		}
		var words []string
		for _, c := range n.Content {
			if c.Kind != yaml.ScalarNode {
				return "", errors.New("its items are no words")
			}
			words = append(words, c.Value)
		}
		return strings.Join(words, ","), nil
	}
	return "", fmt.Errorf("it is a mapping: want one %s", kind)
}
