package acs

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

func TestConvertVolumes(t *testing.T) {
	got, err := Conversion{}.Convert(readTask(t, `{"arn":"`+taskARN+`","desiredStatus":"RUNNING",
		"volumes":[
			{"name":"path","host":{"sourcePath":"/srv"}},
			{"name":"empty","type":"host","host":{}},
			{"name":"mine","type":"docker","dockerVolumeConfiguration":{"scope":"task","driver":"local","driverOpts":{"type":"tmpfs","device":"tmpfs"},"labels":{"a":"b"}}},
			{"name":"ours","type":"docker","dockerVolumeConfiguration":{"scope":"shared","autoprovision":true}},
			{"name":"files","type":"efs","efsVolumeConfiguration":{"fileSystemId":"fs-1","rootDirectory":"/x","transitEncryption":"ENABLED","transitEncryptionPort":2999,
				"authorizationConfig":{"accessPointId":"fsap-1","iam":"ENABLED"}}},
			{"name":"disk","type":"attachment"}],
		"attachments":[{"attachmentArn":"arn:aws:ecs:r:1:attachment/a","attachmentType":"amazonebs","attachmentProperties":[
			{"name":"volumeId","value":"vol-0123"},{"name":"volumeSizeGib","value":"20"},{"name":"deviceName","value":"/dev/sdba"},
			{"name":"sourceVolumeHostPath","value":"9ab0_vol-0123"},{"name":"volumeName","value":"disk"},{"name":"fileSystem","value":"ext4"}]}],
		"containers":[
			{"name":"a","image":"i","mountPoints":[
				{"sourceVolume":"path","containerPath":"/path:rshared","readOnly":true},
				{"sourceVolume":"empty","containerPath":"/empty"},
				{"sourceVolume":"mine","containerPath":"/mine:nocopy,rslave"},
				{"sourceVolume":"ours","containerPath":"/ours","readOnly":true},
				{"sourceVolume":"files","containerPath":"/files"},
				{"sourceVolume":"disk","containerPath":"/disk"}]},
			{"name":"b","image":"i","volumesFrom":[{"sourceContainer":"a","readOnly":true}],
				"mountPoints":[{"sourceVolume":"empty","containerPath":"/mine"}]}]}`), "t")
	if err != nil {
		t.Fatal(err)
	}
	wantVolumes := []task.Volume{
		{Name: "path", Kind: task.VolumeHost, Source: "/srv"},
		{Name: "empty", Kind: task.VolumeHost},
		{Name: "mine", Kind: task.VolumeDocker, Driver: "local", DriverOptions: map[string]string{"type": "tmpfs", "device": "tmpfs"}, Labels: map[string]string{"a": "b"}},
		{Name: "ours", Kind: task.VolumeDocker, Shared: true, Autoprovision: true},
		{Name: "files", Kind: task.VolumeEFS, EFS: &task.EFS{FileSystemID: "fs-1", RootDirectory: "/x", AccessPointID: "fsap-1", TLS: true, IAM: true, TLSPort: 2999}},
		{Name: "disk", Kind: task.VolumeEBS, Source: "9ab0_vol-0123", EBS: &task.EBS{
			AttachmentARN: "arn:aws:ecs:r:1:attachment/a", VolumeID: "vol-0123", DeviceName: "/dev/sdba", FileSystem: "ext4",
		}},
	}
	if diff := cmp.Diff(wantVolumes, got.Volumes); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	path := container.Mount{Type: "bind", Source: "/srv", CreateSource: true, Destination: "/path", Options: []string{"rbind", "ro", "rshared"}}
	wantMounts := map[string][]task.VolumeMount{
		"a": {
			{Volume: "empty", Destination: "/empty"},
			{Volume: "mine", Destination: "/mine", Options: []string{"nocopy", "rslave"}},
			{Volume: "ours", Destination: "/ours", ReadOnly: true},
			{Volume: "files", Destination: "/files"},
			{Volume: "disk", Destination: "/disk"},
		},
		"b": {
			{Volume: "empty", Destination: "/mine"},
			{Volume: "empty", Destination: "/empty", ReadOnly: true, Options: []string{"nocopy"}},
			{Volume: "ours", Destination: "/ours", ReadOnly: true, Options: []string{"nocopy"}},
			{Volume: "files", Destination: "/files", ReadOnly: true, Options: []string{"nocopy"}},
			{Volume: "disk", Destination: "/disk", ReadOnly: true, Options: []string{"nocopy"}},
		},
	}
	for _, c := range got.Containers {
		if diff := cmp.Diff(wantMounts[c.Name], c.VolumeMounts); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.Name, diff)
		}
		if diff := cmp.Diff([]container.Mount{path}, c.Spec.Mounts); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.Name, diff)
		}
	}
}

func TestConvertVolumeErrors(t *testing.T) {
	mount := func(at string) string {
		return `{"arn":"` + taskARN + `","desiredStatus":"RUNNING","volumes":[{"name":"v"}],` +
			`"containers":[{"name":"c","image":"i","mountPoints":[{"sourceVolume":"v","containerPath":"` + at + `"}]}]}`
	}
	const efs = "tasks[1].volumes[0].efsVolumeConfiguration."
	ebs := func(fs string) string {
		return `"attachments":[{"attachmentArn":"a","attachmentType":"amazonebs","attachmentProperties":[
			{"name":"volumeId","value":"v"},{"name":"volumeSizeGib","value":"1"},{"name":"deviceName","value":"d"},
			{"name":"sourceVolumeHostPath","value":"p"},{"name":"volumeName","value":"n"}` + fs + `]}]`
	}
	for _, tc := range []struct{ task, want string }{
		{
			withTask(`"volumes":[{"name":"v","type":"docker","dockerVolumeConfiguration":{"driver":"rexray"}}]`),
			"tasks[1].volumes[0].dockerVolumeConfiguration.driver: the volume driver rexray is not supported by this version of Berth",
		},
		{withTask(`"volumes":[{"name":"v","type":"efs"}]`), efs + "fileSystemId: is missing"},
		{withTask(`"volumes":[{"name":"v","type":"efs","efsVolumeConfiguration":{"fileSystemId":"f","transitEncryptionPort":-1}}]`), efs + "transitEncryptionPort: -1 is not a port"},
		{withTask(`"volumes":[{"name":"v","type":"fsxWindowsFileServer"}]`), "tasks[1].volumes[0]: a volume of type fsxWindowsFileServer is not supported by this version of Berth"},
		{withTask(`"volumes":[{"name":"v","type":"s3files"}]`), "tasks[1].volumes[0]: a volume of type s3files is not supported by this version of Berth"},
		{withTask(`"volumes":[{"name":"v","type":"attachment"}]`), "tasks[1].volumes[0]: a volume of type attachment is not supported by this version of Berth"},
		{withTask(`"attachments":[{"attachmentType":"amazonebs"}]`), "tasks[1].attachments[0].attachmentProperties.volumeId: is missing"},
		{withTask(ebs(`,{"name":"fileSystem","value":"ntfs"}`)), "tasks[1].attachments[0].attachmentProperties.fileSystem: the file system ntfs is not supported by this version of Berth"},
		{mount(""), "tasks[1].containers[0].mountPoints[0].containerPath: Unable to resolve volume mounts; invalid path: c v;  -> "},
		{mount("rel"), `tasks[1].containers[0].mountPoints[0].containerPath: "rel" is not an absolute path`},
		{mount("/v:huge"), `tasks[1].containers[0].mountPoints[0].containerPath: "huge" is not an option of a volume`},
	} {
		_, err := Conversion{}.Convert(readTask(t, tc.task), "tasks[1]")
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s\n got %v\nwant %s", tc.task, err, tc.want)
		}
	}
}
