package gocloud

import (
	"context"
	"errors"

	"gocloud.dev/gcerrors"

	"github.com/embermq/embermq/store"
)

// retryable reports what another attempt may mend.
func retryable(err error) bool { return errors.Is(err, store.ErrBusy) }

// errorAs gives the store's typed errors.
func errorAs(err error, i any) bool {
	switch i.(type) {
	case **store.CorruptError, **store.RangeError, **store.InvalidError, **store.LockedError:
		return errors.As(err, i)
	}
	return false
}

func code(err error) gcerrors.ErrorCode {
	for _, c := range []struct {
		is   error
		code gcerrors.ErrorCode
	}{
		{context.Canceled, gcerrors.Canceled},
		{context.DeadlineExceeded, gcerrors.DeadlineExceeded},
		{store.ErrNotFound, gcerrors.NotFound},
		{store.ErrInvalidMessage, gcerrors.InvalidArgument},
		{store.ErrInvalidName, gcerrors.InvalidArgument},
		{store.ErrTooLarge, gcerrors.InvalidArgument},
		{store.ErrPermission, gcerrors.PermissionDenied},
		{store.ErrDiskFull, gcerrors.ResourceExhausted},
		{store.ErrClosed, gcerrors.FailedPrecondition},
		{store.ErrUnsupported, gcerrors.Unimplemented},
	} {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return gcerrors.Unknown
}
