import ArgumentParser
import EngramConfig
import EngramCore
import EngramStore
import Foundation
import UnixSignals

struct ServeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve", abstract: "Run the node until it is told to stop (SIGTERM or SIGINT).",
    discussion: """
      Listens for clients and peers on one port, and for `engram-node admin` on a Unix socket. On SIGTERM it \
      stops taking new work, commits what is queued, says goodbye to peers, and ends within the configured \
      drain time. Standard error carries the log; once the node listens, standard output says where.

        engram-node serve --config federation.toml
      """)

  @OptionGroup var source: ConfigurationOption

  @Option(
    help: ArgumentHelp(
      "How commits reach the disk: full, or normal, which loses acknowledged messages in a power cut.",
      discussion: "Only the power-cut test uses `normal`, as the control that must fail.", visibility: .hidden
    ))
  var synchronous = "full"

  func run() async throws {
    try await reporting {
      umask(0o077)
      // A peer that goes away while we write is an error of that connection, not the end of the process.
      signal(SIGPIPE, SIG_IGN)
      let configuration = try source.load()
      guard let synchronous = ["full": Synchronous.full, "normal": .normal][synchronous] else {
        throw Failure(.configuration, "--synchronous is full or normal")
      }
      let key = try loadIdentity(configuration, passphraseFile: source.passphraseFile)
      let service = try NodeService(
        configuration, configPath: source.config, identity: key, synchronous: synchronous)
      let port = try await service.start()
      print("engram-node \(configuration.name) listens on \(configuration.listen.host):\(port)")
      fflush(nil)
      for await _ in await UnixSignalsSequence(trapping: .sigterm, .sigint) { break }
      // Trapping ended with the loop: a second signal ends the process at once.
      await service.stop()
    }
  }
}
