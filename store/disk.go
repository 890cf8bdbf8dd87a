package store

// Disk is the room on the file system that holds the log.
type Disk struct {
	Total, Free int64 // bytes; Free is what this process may still use
}

// Disk asks the file system for its room.
func (s *Store) Disk() (Disk, error) {
	if err := s.usable(); err != nil {
		return Disk{}, err
	}
	u, err := s.logFS.Usage()
	return Disk{Total: u.Total, Free: u.Free}, err
}
