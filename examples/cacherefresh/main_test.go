package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/examples/internal/example"
)

func TestRun(t *testing.T) { require.NoError(t, example.Run("cacherefresh", run)) }
