# A formula for Homebrew that builds the driver from source: https://docs.brew.sh/Formula-Cookbook
#
# To use it, put it into the directory Formula of a tap, with the addresses of this project and a release in place of those below, and the
# checksum that `shasum -a 256` tells of that release's source.
class GitlabRunnerTartDriver < Formula
  desc "Custom executor driver for GitLab Runner that runs jobs in Tart virtual machines"
  homepage "https://gitlab.example/group/gitlab-runner-tart-driver"
  url "https://gitlab.example/group/gitlab-runner-tart-driver/-/archive/v0.0.0/gitlab-runner-tart-driver-v0.0.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "MIT"
  head "https://gitlab.example/group/gitlab-runner-tart-driver.git", branch: "main"

  depends_on "go" => :build

  on_macos do
    depends_on arch: :arm64
    depends_on macos: :ventura
  end

  def install
    # The binary, manual pages, and completions for bash, zsh and fish.
    args = ["PREFIX=#{prefix}", "VERSION=#{version}"]
    args << "COMMIT=#{Utils.git_head}" if build.head?
    system "make", "install", *args
  end

  def caveats
    <<~EOS
      It needs Tart and GitLab Runner:
        brew install openai/tools/tart gitlab-runner
      To make a runner of this Mac:
        gitlab-runner-tart-driver setup
    EOS
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/gitlab-runner-tart-driver --version")
    assert_match "pull-policy", shell_output("#{bin}/gitlab-runner-tart-driver explain")
    assert_path_exists man1/"gitlab-runner-tart-driver-setup.1"
  end
end
