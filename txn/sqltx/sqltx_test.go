package sqltx

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

func TestParameters(t *testing.T) {
	require.Equal(t, "a = ? AND b = ?", parameters("a = ? AND b = ?", false))
	require.Equal(t, "a = $1 AND b = $2", parameters("a = ? AND b = ?", true))
	require.Equal(t, "a", parameters("a", true))
}

func TestTableNames(t *testing.T) {
	_, err := New(nil, nil, Options{Markers: "x; DROP TABLE y"})
	require.ErrorIs(t, err, message.ErrInvalidName)
	_, err = New(nil, nil, Options{Markers: "schema.markers_1"})
	require.NoError(t, err)
}
