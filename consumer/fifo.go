package consumer

// fifo is a queue in memory that reuses its space.
type fifo[T any] struct {
	list []T
	head int
}

func (f *fifo[T]) len() int { return len(f.list) - f.head }

func (f *fifo[T]) push(v T) { f.list = append(f.list, v) }

// front is the oldest; there is one.
func (f *fifo[T]) front() T { return f.list[f.head] }

func (f *fifo[T]) pop() T {
	var zero T
	v := f.list[f.head]
	f.list[f.head] = zero
	f.head++
	switch {
	case f.head == len(f.list):
		f.list, f.head = f.list[:0], 0
	case f.head >= 32 && f.head*2 >= len(f.list):
		n := copy(f.list, f.list[f.head:])
		clear(f.list[n:])
		f.list, f.head = f.list[:n], 0
	}
	return v
}

// unpop puts values in front again, in their order.
func (f *fifo[T]) unpop(vs []T) {
	if len(vs) <= f.head {
		f.head -= len(vs)
		copy(f.list[f.head:], vs)
		return
	}
	f.list = append(append(make([]T, 0, len(vs)+f.len()), vs...), f.list[f.head:]...)
	f.head = 0
}

func (f *fifo[T]) clear() {
	clear(f.list)
	f.list, f.head = f.list[:0], 0
}
