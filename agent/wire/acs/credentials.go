package acs

import "fmt"

// The role types of an IAMRoleCredentialsMessage.
const (
	RoleApplication = "TaskApplication"
	RoleExecution   = "TaskExecution"
)

// IAMRoleCredentials are the keys of a role. Expiration is ISO-8601 and is
// echoed verbatim. They print as *** and never reach a log.
type IAMRoleCredentials struct {
	CredentialsID   string `json:"credentialsId,omitempty"`
	RoleARN         string `json:"roleArn,omitempty"`
	AccessKeyID     string `json:"accessKeyId,omitempty"`
	SecretAccessKey string `json:"secretAccessKey,omitempty"`
	SessionToken    string `json:"sessionToken,omitempty"`
	Expiration      string `json:"expiration,omitempty"`
	CredentialScope string `json:"credentialScope,omitempty"`
}

// Format keeps the keys out of whatever prints them, for every verb.
func (IAMRoleCredentials) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("***")) }

// IAMRoleCredentialsMessage brings new keys for a task's role (§4.8).
type IAMRoleCredentialsMessage struct {
	MessageID       string              `json:"messageId,omitempty"`
	TaskARN         string              `json:"taskArn,omitempty"`
	TaskClusterARN  string              `json:"taskClusterArn,omitempty"`
	RoleType        string              `json:"roleType,omitempty"`
	RoleCredentials *IAMRoleCredentials `json:"roleCredentials,omitempty"`
}

// MessageType is TypeCredentials.
func (*IAMRoleCredentialsMessage) MessageType() string { return TypeCredentials }

// Validate says whether the message can be carried out.
func (m *IAMRoleCredentialsMessage) Validate() error {
	switch {
	case m.MessageID == "":
		return missing("messageId")
	case m.TaskARN == "":
		return missing("taskArn")
	case m.RoleType != RoleApplication && m.RoleType != RoleExecution:
		return &FieldError{"roleType", fmt.Sprintf("%q is neither %s nor %s", m.RoleType, RoleApplication, RoleExecution)}
	case m.RoleCredentials == nil:
		return missing("roleCredentials")
	case m.RoleCredentials.CredentialsID == "":
		return missing("roleCredentials.credentialsId")
	}
	return nil
}

// IAMRoleCredentialsAckRequest says that keys were received.
type IAMRoleCredentialsAckRequest struct {
	MessageID     string `json:"messageId,omitempty"`
	Expiration    string `json:"expiration,omitempty"`
	CredentialsID string `json:"credentialsId,omitempty"`
}

// MessageType is TypeCredentialsAck.
func (*IAMRoleCredentialsAckRequest) MessageType() string { return TypeCredentialsAck }
