# AMIs with Berth, on Debian 12 and on Amazon Linux 2023:
#
#   make packages
#   packer init ami/
#   packer build -var version=VERSION -var region=eu-central-1 ami/
#   packer build -only 'amazon-ebs.debian-12' -var arch=arm64 … ami/
#
# VERSION is that of the packages in dist/. Versions of containerd and runc are in ami/versions. What an AMI consists of is said by its
# tags, by dist/ami.json (which AMI in which region, from what) and by dist/sbom-DISTRIBUTION-ARCH.json.

variable "version" {
  type        = string
  description = "Version of Berth's packages."
}

variable "dist" {
  type        = string
  default     = "dist"
  description = "Directory that has the packages, and gets the manifest and the bills of materials."
}

variable "arch" {
  type        = string
  default     = "amd64"
  description = "Of the AMI: amd64 or arm64."
}

variable "region" {
  type        = string
  default     = "us-east-1"
  description = "Region to build in."
}

variable "copy_to" {
  type        = list(string)
  default     = []
  description = "Further regions to have the AMI in."
}

variable "share_with" {
  type        = list(string)
  default     = []
  description = "Accounts that may use the AMI. None is the own one only."
}

variable "encrypted" {
  type        = bool
  default     = false
  description = "Encrypt the snapshot. Shared with others it needs a key of your own that they may use."
}

variable "kms_key" {
  type        = string
  default     = ""
  description = "Key to encrypt with. None is the account's own for EBS."
}

variable "volume_gib" {
  type        = number
  default     = 16
  description = "Size of the root volume; an instance may have a larger one, and its file system grows to that."
}

variable "images" {
  type        = string
  default     = ""
  description = "Container images to bake in: a list of references, an OCI archive, or a directory of such."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Further tags, of the AMI and its snapshots and of all that is made on the way."
}

variable "instance_type" {
  type        = map(string)
  default     = { amd64 = "t3.small", arm64 = "t4g.small" }
  description = "Instance to build on, by architecture."
}

variable "subnet" {
  type        = string
  default     = ""
  description = "Subnet to build in. None is the default VPC's."
}

variable "instance_profile" {
  type        = string
  default     = ""
  description = "Of the instance to build on: it needs one to bake in images from Amazon ECR."
}

variable "ec2_endpoint" {
  type        = string
  default     = ""
  description = "Address of the EC2 API, where it is not the region's."
}

locals {
  machine  = { amd64 = "x86_64", arm64 = "arm64" }[var.arch]
  rpm_arch = { amd64 = "x86_64", arm64 = "aarch64" }[var.arch]
  packages = {
    debian-12 = "berth_${var.version}-1_${var.arch}.deb"
    amzn-2023 = "berth-${var.version}-1.${local.rpm_arch}.rpm"
  }
  # What ami/versions says, for the tags: which package it is in the end is in the bill of materials.
  versions   = file("${path.root}/versions")
  containerd = { for d in ["debian-12", "amzn-2023"] : d => regex_replace(local.versions, "(?s).*\\n${d} +containerd +(\\S+).*", "$1") }
  runc       = { for d in ["debian-12", "amzn-2023"] : d => regex_replace(local.versions, "(?s).*\\n${d} +runc +(\\S+).*", "$1") }
  # A version has characters that the name of an AMI must not have.
  name  = "${regex_replace(var.version, "[^0-9A-Za-z.-]", "-")}-${var.arch}-${regex_replace(timestamp(), "[^0-9]", "")}"
  tags  = merge(var.tags, { berth_version = var.version, source_image = "{{ .SourceAMIName }}" })
  baked = var.images == "" ? "" : "--images /tmp/berth/${basename(var.images)}"
}

source "amazon-ebs" "host" {
  region                      = var.region
  instance_type               = var.instance_type[var.arch]
  subnet_id                   = var.subnet
  iam_instance_profile        = var.instance_profile
  custom_endpoint_ec2         = var.ec2_endpoint
  associate_public_ip_address = true
  ssh_clear_authorized_keys   = true
  ena_support                 = true

  # since packer 1.7
  # Tokens are asked of whoever asks for metadata: on the instance that is built on, and on every instance of the AMI.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  imds_support = "v2.0"
  # end

  ami_description = "Berth ${var.version}, Amazon ECS on containerd"
  ami_regions     = var.copy_to
  ami_users       = var.share_with
  snapshot_users  = var.encrypted ? [] : var.share_with

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = var.volume_gib
    iops                  = 3000
    throughput            = 125
    delete_on_termination = true
    # From the start: there is no snapshot that is not encrypted, not for a moment either.
    encrypted  = var.encrypted ? true : null
    kms_key_id = var.kms_key
  }

  run_tags        = merge(local.tags, { Name = "berth: building ${local.name}" })
  run_volume_tags = local.tags
  snapshot_tags   = local.tags
}

build {
  source "amazon-ebs.host" {
    name         = "debian-12"
    ami_name     = "berth-debian-12-${local.name}"
    ssh_username = "admin"
    tags = merge(local.tags, {
      Name = "berth-debian-12-${local.name}", os = "debian-12", containerd_version = local.containerd["debian-12"], runc_version = local.runc["debian-12"]
    })
    source_ami_filter {
      owners      = ["136693071363"] # Debian
      most_recent = true
      filters     = { name = "debian-12-${var.arch}-*", root-device-type = "ebs", virtualization-type = "hvm" }
    }
  }

  source "amazon-ebs.host" {
    name         = "amzn-2023"
    ami_name     = "berth-amzn-2023-${local.name}"
    ssh_username = "ec2-user"
    tags = merge(local.tags, {
      Name = "berth-amzn-2023-${local.name}", os = "amzn-2023", containerd_version = local.containerd["amzn-2023"], runc_version = local.runc["amzn-2023"]
    })
    source_ami_filter {
      owners      = ["amazon"]
      most_recent = true
      filters     = { name = "al2023-ami-minimal-2023.*-kernel-6.1-${local.machine}", root-device-type = "ebs", virtualization-type = "hvm" }
    }
  }

  provisioner "shell" {
    # The first boot is over, and with it whatever holds the package manager.
    inline = ["if command -v cloud-init >/dev/null; then sudo cloud-init status --wait >/dev/null; fi", "mkdir -p /tmp/berth"]
  }

  provisioner "file" {
    sources = concat(
      ["${path.root}/provision.sh", "${path.root}/versions", "${path.root}/host", "${var.dist}/${local.packages[source.name]}"],
      var.images == "" ? [] : [var.images],
    )
    destination = "/tmp/berth/"
  }

  provisioner "shell" {
    inline = ["sudo bash /tmp/berth/provision.sh --package '/tmp/berth/${local.packages[source.name]}' ${local.baked}"]
  }

  provisioner "file" {
    direction   = "download"
    source      = "/usr/share/berth/sbom.json"
    destination = "${var.dist}/sbom-${source.name}-${var.arch}.json"
  }

  # The last thing: nothing of this instance goes into the AMI.
  provisioner "shell" {
    inline = [
      "rm -rf /tmp/berth",
      "if command -v apt-get >/dev/null; then sudo apt-get clean; else sudo dnf clean all --quiet; fi",
      "if command -v cloud-init >/dev/null; then sudo cloud-init clean --logs; fi",
      "sudo berth seal",
      "sync",
    ]
  }

  post-processor "manifest" {
    output     = "${var.dist}/ami.json"
    strip_path = true
    custom_data = {
      version    = var.version, arch = var.arch, os = source.name, volume = "gp3", imds = "v2.0"
      containerd = local.containerd[source.name], runc = local.runc[source.name]
    }
  }
}
