import ArgumentParser

struct ServeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve", abstract: "Run the node until it is told to stop (SIGTERM or SIGINT).",
    discussion: """
      Listens for clients and peers on one port, and for `engram-node admin` on a Unix socket. On SIGTERM it stops \
      taking new work, commits what is queued, says goodbye to peers, and ends within the configured drain time.

        engram-node serve --config federation.toml
      """)

  @OptionGroup var source: ConfigurationOption

  func run() async throws {
    try await reporting { print("soon") }
  }
}
