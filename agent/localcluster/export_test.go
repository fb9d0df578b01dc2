package localcluster

import "github.com/berthd/berth/agent/wire/acs"

// Vend lets tests have role credentials without a task.
func Vend(s *Server, id, roleARN string) *acs.IAMRoleCredentials { return s.vault.issue(id, roleARN) }
