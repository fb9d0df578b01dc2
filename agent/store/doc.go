// Package store is what the agent remembers: a bbolt database with the tasks,
// the state changes that wait to be sent, and what was learnt at registration.
// The store is the truth about what ECS asked and was told; containerd is the
// truth about containers.
//
// The database:
//
//	agent.db
//	├── meta
//	│   ├── schema                  "2": which drawing this is, in decimal
//	│   ├── agent-version           checksum, the agent that wrote last
//	│   ├── availability-zone       checksum, of the host
//	│   ├── boot-id                 checksum, of the kernel that the tasks ran under
//	│   ├── cluster                 checksum, the cluster joined
//	│   ├── container-instance-arn  checksum, what registration answered
//	│   ├── drain                   checksum, the last order to leave service
//	│   ├── ec2-instance-id         checksum, of the host
//	│   └── manifest-sequence       checksum, of the last task manifest, in decimal
//	├── tasks
//	│   └── <task>                  checksum, record
//	├── attachments
//	│   └── <attachment>            checksum, record
//	└── outbox
//	    └── <id>                    checksum, {"Task": …, "Change": …}
//
// A key of meta that is empty, or for manifest-sequence negative, is absent.
// <task> is the name under which a task was committed, its ARN. A record is the
// caller's, and opaque here. <attachment> is an ARN too. <id> is a task.Entry's ID as eight bytes, the
// highest first, so that the order of keys is the order in which changes were
// made; IDs are never used twice, not even after Reset. A checksum is four
// bytes of CRC-32C over the key and what follows.
//
// All writes go through one goroutine, which puts what is queued at that moment
// into one transaction: a call alone is written at once, and forty calls at
// once cost two syncs and not eighty. A write that was acknowledged is on disk;
// one that was not left nothing behind it.
//
// A file that cannot be believed (cut short, damaged, of a newer schema) is put
// aside and never repaired in place, and a fresh one is begun: an agent that
// does not start is worse than one that has to learn its tasks again. A database
// that a newer agent migrated, before it was found to be no good, is there in a
// copy as it was. Recovered says what was done. Secrets never come here: records hold ids of credentials.
package store
