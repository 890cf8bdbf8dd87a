package fs

import (
	"fmt"
	"sync"
)

// faultyFile is a file of a Faulty.
type faultyFile struct {
	File
	st   *faultState
	path string // guarded by st.mu: a rename changes it
	once sync.Once
}

func (f *faultyFile) do(op Op) (short int, err error) {
	f.st.mu.Lock()
	path := f.path
	f.st.mu.Unlock()
	short, err = f.st.do(op, path)
	if err != nil && err != ErrUnsupported {
		err = fmt.Errorf("fs: %s: %w", path, err)
	}
	return short, err
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if _, err := f.do(OpRead); err != nil {
		return 0, err
	}
	n, err := f.File.ReadAt(p, off)
	f.st.mu.Lock()
	f.st.counts.BytesRead += int64(n)
	f.st.mu.Unlock()
	return n, err
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	short, fault := f.do(OpWrite)
	if fault != nil {
		p = p[:min(max(0, short), len(p))]
		if len(p) == 0 {
			return 0, fault
		}
	}
	n, err := f.File.WriteAt(p, off)
	f.st.mu.Lock()
	f.st.counts.BytesWritten += int64(n)
	f.st.mu.Unlock()
	if fault != nil {
		return 0, fault
	}
	return n, err
}

func (f *faultyFile) Truncate(size int64) error {
	if _, err := f.do(OpTruncate); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) Preallocate(off, n int64) error {
	if _, err := f.do(OpPreallocate); err != nil {
		return err
	}
	return f.File.Preallocate(off, n)
}

func (f *faultyFile) SyncData() error {
	if _, err := f.do(OpSyncData); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *faultyFile) Sync() error {
	if _, err := f.do(OpSync); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultyFile) Size() (int64, error) {
	if _, err := f.do(OpSize); err != nil {
		return 0, err
	}
	return f.File.Size()
}

func (f *faultyFile) NextData(off int64) (start, end int64, err error) {
	if _, err := f.do(OpNextData); err != nil {
		return 0, 0, err
	}
	return f.File.NextData(off)
}

func (f *faultyFile) Map(n int64) (Mapping, error) {
	if _, err := f.do(OpMap); err != nil {
		return nil, err
	}
	m, err := f.File.Map(n)
	if err != nil {
		return nil, err
	}
	f.st.mu.Lock()
	f.st.counts.Mappings++
	f.st.mu.Unlock()
	return &faultyMapping{Mapping: m, f: f}, nil
}

func (f *faultyFile) Close() error {
	_, fault := f.do(OpClose)
	f.once.Do(func() {
		f.st.mu.Lock()
		delete(f.st.open, f)
		f.st.counts.OpenFiles--
		f.st.mu.Unlock()
	})
	if err := f.File.Close(); err != nil {
		return err
	}
	return fault
}

type faultyMapping struct {
	Mapping
	f    *faultyFile
	once sync.Once
}

func (m *faultyMapping) Populate(off, n int64) error {
	if _, err := m.f.do(OpPopulate); err != nil {
		return err
	}
	return m.Mapping.Populate(off, n)
}

func (m *faultyMapping) Close() error {
	m.once.Do(func() {
		m.f.st.mu.Lock()
		m.f.st.counts.Mappings--
		m.f.st.mu.Unlock()
	})
	return m.Mapping.Close()
}
