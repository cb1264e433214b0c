package config

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Reference is every option in words, for a terminal of the given width.
func Reference(width int) []byte {
	var b bytes.Buffer
	b.WriteString("Every option has one name: a flag, an environment variable and a key of the YAML file that --config or\n" +
		EnvConfig + " names. A flag goes before the environment, that before the file, that before the default. A variable\n" +
		"that is empty counts as not set.\n")
	group := ""
	for _, o := range options {
		if o.Group != group {
			group = o.Group
			fmt.Fprintf(&b, "\n%s\n", strings.ToUpper(group))
		}
		fmt.Fprintf(&b, "\n%s  (%s, default %s)\n", o.Name, o.Type, o.shownDefault())
		wrap(&b, "    ", o.Help, width)
		wrap(&b, "    ", o.Edge, width)
		fmt.Fprintf(&b, "    --%s   %s\n", o.Name, EnvName(o.Name))
	}
	b.WriteString("\nCHANNELS\n\n")
	wrap(&b, "", channelsIntro, width)
	for _, c := range channelOptions {
		fmt.Fprintf(&b, "\n%s  (%s, default %s)\n", c.name, c.typ, c.def)
		wrap(&b, "    ", c.help, width)
	}
	b.WriteString(units)
	return b.Bytes()
}

const channelsIntro = "What holds for a channel is said by its namespace, which is what stands in front of the first colon of its name. " +
	"The file has two sections for that, which are neither flags nor environment variables: channels: is a mapping of the options below, for channels without a namespace; " +
	"namespaces: is a list of such mappings, each with a name:. Without them every channel is closed to whoever has no token for it, but see dev. " +
	"Keys may have underscores for dashes."

const units = `
UNITS

count     a whole number; underscores may group its digits: 1_000_000
size      bytes, or a number with KiB, MiB, GiB (1024) or kB, MB, GB (1000): 512MiB
duration  a number with ms, s, m or h: 25s, 1m30s; off is 0s
bool      true or false; as a flag --dev and --no-dev
list      words with commas between; in the file also a YAML list
`

func (o *Option) shownDefault() string {
	if o.Default == "" {
		return "empty"
	}
	return o.Default
}

func wrap(b *bytes.Buffer, indent, text string, width int) {
	line := indent
	for word := range strings.FieldsSeq(text) {
		if len(line) > len(indent) && len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line = indent
		}
		if len(line) > len(indent) {
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
}

// Markdown is the reference as a page.
func Markdown() []byte {
	var b bytes.Buffer
	b.WriteString("# Options of `longwire serve`\n\n" +
		"<!-- Written by `make generate` from internal/config. -->\n\n" +
		"Every option has one name: a flag, an environment variable and a key of the YAML file that `--config` or\n" +
		"`" + EnvConfig + "` names. A flag goes before the environment, that before the file, that before the default.\n" +
		"A variable that is empty counts as not set.\n" +
		"`longwire config --effective` prints the values in force and where each came from.\n")
	group := ""
	for _, o := range options {
		if o.Group != group {
			group = o.Group
			fmt.Fprintf(&b, "\n## %s\n", group)
		}
		fmt.Fprintf(&b, "\n### `%s`\n\n`--%s` · `%s` · %s · default `%s`\n\n%s %s\n",
			o.Name, o.Name, EnvName(o.Name), o.Type, o.shownDefault(), o.Help, o.Edge)
	}
	b.WriteString("\n## Channels\n\n" + channelsIntro + " [channels.md](channels.md) explains them.\n\n" +
		"| option of channels | type | default | |\n|---|---|---|---|\n")
	for _, c := range channelOptions {
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", c.name, c.typ, c.def, c.help)
	}
	b.WriteString("\n## Units\n\n```" + strings.TrimPrefix(units, "\nUNITS\n") + "```\n")
	return b.Bytes()
}

// YAML is the values in force, as a file that gives the same again, with where each came from. Secrets are left out:
// what stands in their place is refused when it is read. Of channels it has what is not off or left to its default.
func (l *Loaded) YAML() ([]byte, error) {
	top := &yaml.Node{Kind: yaml.MappingNode}
	for i := range options {
		o := &options[i]
		value := &yaml.Node{Kind: yaml.ScalarNode, Value: o.text(&l.Serve), LineComment: l.Origins[o.Name].String()}
		switch o.field(&l.Serve).(type) {
		case *string, *PEM, *Secret:
			value.Tag = "!!str"
		case *List:
			value.Kind, value.Value, value.Style = yaml.SequenceNode, "", yaml.FlowStyle
			for _, w := range *o.field(&l.Serve).(*List) {
				value.Content = append(value.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: w, Style: yaml.DoubleQuotedStyle})
			}
		}
		top.Content = append(top.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: o.Name}, value)
	}
	section := func(name string, value *yaml.Node) {
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: name}
		if len(value.Content) > 0 {
			key.LineComment = l.Origins[name].String()
		} else {
			value.LineComment = l.Origins[name].String()
		}
		top.Content = append(top.Content, key, value)
	}
	section(keyChannels, channelsYAML(&l.Channels))
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range l.Namespaces {
		list.Content = append(list.Content, channelsYAML(&l.Namespaces[i]))
	}
	if len(list.Content) == 0 {
		list.Style = yaml.FlowStyle
	}
	section(keyNamespaces, list)
	b, err := yaml.Marshal(top)
	if err != nil {
		return nil, err
	}
	// Behind a comment at its end yaml leaves the line open.
	return append(bytes.TrimRight(b, "\n"), '\n'), nil
}
