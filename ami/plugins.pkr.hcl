# What Packer 1.7 and later fetches for `packer init ami/`. It stands by itself because the Packer that Debian 12 has brings its builders
# along and does not know this block: packer_test.go leaves this file out, and runs the rest.
packer {
  required_version = ">= 1.7.0"
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1.3"
    }
  }
}
