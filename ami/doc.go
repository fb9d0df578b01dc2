// Package ami holds what machine images with Berth are made by, and the tests of it.
//
//	versions         which containerd and runc
//	provision.sh     makes a host of Berth of a Debian 12 or an Amazon Linux 2023; also in a directory, where no systemd runs
//	host/            files that an image has beside its packages
//	berth.pkr.hcl    AMIs, by Packer; plugins.pkr.hcl is what only a newer Packer than Debian's knows
//	image/           a bootable disk, made here
//	vm               boots that disk, as EC2 would
//
// The template is run here to its end: its instance is a machine of package machine, and EC2 is a stand-in that keeps what it was asked
// for. Amazon Linux itself cannot be had here: of it, what dnf and rpm are asked for is compared.
package ami
