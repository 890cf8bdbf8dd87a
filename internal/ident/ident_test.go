package ident

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOf(t *testing.T) {
	digits := "0A00000100002A9F0000000000000042"
	for name, c := range map[string]struct {
		text   string
		hashed bool
		back   string
	}{
		"none":              {"", false, ""},
		"32 digits":         {digits, false, digits},
		"lower case":        {strings.ToLower(digits), true, ""},
		"31 digits":         {digits[1:], true, ""},
		"other text":        {"order-7", true, ""},
		"digits of no id":   {strings.Repeat("0", 32), true, ""},
		"one byte is wrong": {digits[:31] + "G", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			i, hashed := Of(c.text)
			require.Equal(t, c.hashed, hashed)
			require.Equal(t, c.text == "", i == ID{})
			if !hashed {
				require.Equal(t, c.back, i.Text())
			}
			again, _ := Of(c.text)
			require.Equal(t, i, again)
		})
	}
}
