package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/longwire/longwire/internal/cli"
)

// asCommand has the test's own binary be longwire: the tests need processes of it.
const asCommand = "LONGWIRE_TEST_IS_LONGWIRE"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		_ = os.Unsetenv(asCommand)
		os.Exit(cli.Main(context.Background(), cli.OS()))
	}
	os.Exit(m.Run())
}

// root is the repository, seen from here.
const root = "../.."

// program finds a program that scripts/setup installs, or skips the test.
func program(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path, err := filepath.Abs(filepath.Join(root, "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not installed: make setup installs it", name)
	}
	return path
}

// read is a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
