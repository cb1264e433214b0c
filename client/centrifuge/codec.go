package centrifuge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// encode returns a command as the payload of one WebSocket message.
func encode(protobuf bool, c *command) ([]byte, error) {
	if protobuf {
		b := appendMessage(nil, reflect.ValueOf(c).Elem())
		return append(protowire.AppendVarint(nil, uint64(len(b))), b...), nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // data goes out as it is
	if err := e.Encode(c); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// decode calls f with each reply in the payload of a WebSocket message.
func decode(protobuf bool, b []byte, f func(*reply)) error {
	if protobuf {
		for len(b) > 0 {
			m, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return errors.New("a length beyond the message")
			}
			var r reply
			if err := readMessage(m, reflect.ValueOf(&r).Elem()); err != nil {
				return err
			}
			f(&r)
			b = b[n:]
		}
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	for {
		var r reply
		switch err := d.Decode(&r); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		f(&r)
	}
}

// fields are the indices of a struct's fields, and of those of a struct embedded in it, by their numbers. They are found
// once for each type.
type fields map[protowire.Number][]int

var known sync.Map // reflect.Type → fields

func fieldsOf(t reflect.Type) fields {
	if f, ok := known.Load(t); ok {
		return f.(fields)
	}
	f := make(fields)
	for _, field := range reflect.VisibleFields(t) {
		if field.Anonymous {
			continue
		}
		n, err := strconv.Atoi(field.Tag.Get("number"))
		if err != nil {
			panic(fmt.Sprintf("centrifuge: %v.%s has no number", t, field.Name))
		}
		f[protowire.Number(n)] = field.Index
	}
	known.Store(t, f)
	return f
}

// appendMessage appends the fields of a struct that are not zero, in the order of their numbers.
func appendMessage(dst []byte, v reflect.Value) []byte {
	f := fieldsOf(v.Type())
	for _, n := range slices.Sorted(maps.Keys(f)) {
		dst = appendField(dst, n, v.FieldByIndex(f[n]))
	}
	return dst
}

func appendField(dst []byte, n protowire.Number, v reflect.Value) []byte {
	if v.IsZero() {
		return dst
	}
	varint := func(x uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(dst, n, protowire.VarintType), x)
	}
	length := func(b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(dst, n, protowire.BytesType), b)
	}
	switch v.Kind() {
	case reflect.Bool:
		return varint(1)
	case reflect.Uint32, reflect.Uint64:
		return varint(v.Uint())
	case reflect.Int32:
		return varint(uint64(v.Int()))
	case reflect.String:
		return length([]byte(v.String()))
	case reflect.Pointer:
		return length(appendMessage(nil, v.Elem()))
	case reflect.Slice: // of bytes: commands have no other
		return length(v.Bytes())
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) })
		for _, k := range keys {
			entry := appendField(appendField(nil, 1, k), 2, v.MapIndex(k))
			dst = length(entry)
		}
		return dst
	}
	panic("centrifuge: a field of " + v.Kind().String())
}

var errField = errors.New("malformed field")

// readMessage reads the fields of a struct. Fields without a place are passed over; so messages lie no deeper in each
// other than the structs do.
func readMessage(b []byte, v reflect.Value) error {
	f := fieldsOf(v.Type())
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errField
		}
		b = b[n:]
		i, ok := f[number]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return errField
		}
		value := b[:n]
		b = b[n:]
		if !ok {
			continue
		}
		if err := readField(value, kind, v.FieldByIndex(i)); err != nil {
			return err
		}
	}
	return nil
}

func readField(b []byte, kind protowire.Type, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Bool, reflect.Uint32, reflect.Uint64:
		if kind != protowire.VarintType {
			return errField
		}
		x, _ := protowire.ConsumeVarint(b)
		switch v.Kind() {
		case reflect.Bool:
			v.SetBool(x != 0)
		case reflect.Uint32:
			v.SetUint(uint64(uint32(x)))
		default:
			v.SetUint(x)
		}
		return nil
	}
	if kind != protowire.BytesType {
		return errField
	}
	b, _ = protowire.ConsumeBytes(b)
	switch v.Kind() {
	case reflect.String:
		if !utf8.Valid(b) {
			return errField
		}
		v.SetString(string(b))
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return readMessage(b, v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(bytes.Clone(b))
			return nil
		}
		e := reflect.New(v.Type().Elem().Elem())
		if err := readMessage(b, e.Elem()); err != nil {
			return err
		}
		v.Set(reflect.Append(v, e))
	case reflect.Map:
		return readEntry(b, v)
	default:
		panic("centrifuge: a field of " + v.Kind().String())
	}
	return nil
}

// readEntry reads an entry of a map: its key is 1, its value 2, in either order.
func readEntry(b []byte, v reflect.Value) error {
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	key := reflect.New(v.Type().Key()).Elem()
	value := reflect.New(v.Type().Elem()).Elem()
	if value.Kind() == reflect.Pointer {
		value.Set(reflect.New(value.Type().Elem()))
	}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errField
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return errField
		}
		var err error
		switch number {
		case 1:
			err = readField(b[:n], kind, key)
		case 2:
			err = readField(b[:n], kind, value)
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	v.SetMapIndex(key, value)
	return nil
}
