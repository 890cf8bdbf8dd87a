package fs

// IsFull says that an error means that no room is left; here nothing tells.
func IsFull(error) bool { return false }
