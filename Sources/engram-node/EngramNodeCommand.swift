import ArgumentParser

@main
struct EngramNodeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "engram-node",
    abstract: "One organisation's node: sealed messages, queued, delivered and federated.",
    discussion: """
      A first node, from nothing to a running service:

        engram-node init --name acme.example --dir /var/lib/engram --listen 0.0.0.0:7443
        engram-node serve --config /var/lib/engram/federation.toml
        engram-node admin --config /var/lib/engram/federation.toml client invite planner

      Federating with another organisation takes its peer card, which its administrator prints:

        engram-node peer-card --config federation.toml > acme.card
        engram-node admin --config federation.toml peer add globex.card

      Exit codes: 0 done, 1 failed, 64 wrong usage, 65 the store is damaged, 69 the node is not running, or \
      its port or directory is taken, 73 a file cannot be written, 74 the disk lost a write, 75 try again \
      later, 77 not allowed, 78 the configuration is wrong.

      With --json, errors are one JSON object on standard error: {"error":{"code":…,"exit_code":…,"hint":…,\
      "message":…,"name":…}}.
      """,
    version: softwareVersion,
    subcommands: [
      InitCommand.self, ServeCommand.self, AdminCommand.self, PeerCardCommand.self,
      RenewCommand.self,
    ])

  static func main() async {
    do {
      var command = try parseAsRoot()
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch {
      // Help and the version are no errors, and what `reporting` has said is not said again.
      let isUsage = !(error is ExitCode) && exitCode(for: error) == .validationFailure
      guard wantsJSON, isUsage else { exit(withError: error) }
      report(Failure(.usage, message(for: error), hint: "--help shows what there is"))
      exit(withError: ExitCode.validationFailure)
    }
  }
}

/// The version of this build; the changelog says what is in it.
let softwareVersion = "0.1.0"
