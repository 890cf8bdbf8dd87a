package store

// Disk is the room on the file system that holds the log, in bytes. Free is what
// this process may still use, and Total that and all that is used: what the file
// system keeps for the administrator is in neither. The watermarks of retention
// compare Total-Free with Total, as df does.
type Disk struct {
	Total, Free int64
}

// Disk asks the file system for its room.
func (s *Store) Disk() (Disk, error) {
	if err := s.usable(); err != nil {
		return Disk{}, err
	}
	u, err := s.logFS.Usage()
	return Disk{Total: u.Total, Free: u.Free}, err
}
