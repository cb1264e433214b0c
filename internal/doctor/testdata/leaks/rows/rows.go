// Package rows reads users from a database.
package rows

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
)

type fakeDriver struct{}
type fakeConn struct{ buffer [512]byte }
type fakeStmt struct{}
type fakeRows struct{ left int }

func (fakeDriver) Open(string) (driver.Conn, error)         { return &fakeConn{}, nil }
func (*fakeConn) Prepare(string) (driver.Stmt, error)       { return fakeStmt{}, nil }
func (*fakeConn) Close() error                              { return nil }
func (*fakeConn) Begin() (driver.Tx, error)                 { return nil, io.EOF }
func (fakeStmt) Close() error                               { return nil }
func (fakeStmt) NumInput() int                              { return -1 }
func (fakeStmt) Exec([]driver.Value) (driver.Result, error) { return nil, io.EOF }
func (fakeStmt) Query([]driver.Value) (driver.Rows, error)  { return &fakeRows{3}, nil }
func (*fakeRows) Columns() []string                         { return []string{"id"} }
func (*fakeRows) Close() error                              { return nil }
func (r *fakeRows) Next(to []driver.Value) error {
	if r.left == 0 {
		return io.EOF
	}
	r.left--
	to[0] = int64(r.left)
	return nil
}

var db *sql.DB

func init() {
	sql.Register("fake", fakeDriver{})
	db, _ = sql.Open("fake", "")
}

func firstUser(ctx context.Context, name string) (id int64, err error) {
	rows, err := db.QueryContext(ctx, "select id from users where name = ?", name) // LEAK: not closed when there are more
	if err != nil {
		return 0, err
	}
	if rows.Next() {
		err = rows.Scan(&id)
		return id, err
	}
	return 0, rows.Err()
}

// Handle answers one request.
func Handle(id int) {
	if id%4 == 0 {
		_, _ = firstUser(context.WithoutCancel(context.Background()), "ann")
	}
}
