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
      drain time; a second signal ends it at once. On SIGHUP it reads its TLS certificate again. Standard \
      error carries the log; once the node listens, standard output says where.

      Example:
        engram-node serve --config federation.toml
      """)

  @OptionGroup var source: ConfigurationOption
  @OptionGroup var identity: PassphraseOption

  @Flag(help: ArgumentHelp("Errors as JSON.", visibility: .hidden))
  var json = false

  @Option(
    help: ArgumentHelp(
      "How commits reach the disk: full, or normal, which loses acknowledged messages in a power cut.",
      discussion: "Only the power-cut test uses `normal`, as the control that must fail.", visibility: .hidden
    ), completion: .list(["full", "normal"]))
  var synchronous = "full"

  func run() async throws {
    try await reporting {
      umask(0o077)
      // A peer that goes away while we write is an error of that connection, not the end of the process.
      signal(SIGPIPE, SIG_IGN)
      guard let synchronous = ["full": Synchronous.full, "normal": .normal][synchronous] else {
        throw Failure(.usage, "--synchronous is full or normal")
      }
      let configuration = try source.load()
      let key = try loadIdentity(configuration, passphraseFile: identity.passphraseFile)
      let service = try NodeService(
        configuration, configPath: source.config, identity: key, synchronous: synchronous)
      let port = try await service.start()
      let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint, .sighup)
      let host = configuration.listen.host
      print("engram-node \(configuration.name) listens on \(host.contains(":") ? "[\(host)]" : host):\(port)")
      fflush(nil)
      await untilStopped(service, signals)
    }
  }

  /// Returns once the node has stopped after a first signal. A second one ends the process where it stands:
  /// what was acknowledged is on the disk already.
  private func untilStopped(_ service: NodeService, _ signals: UnixSignalsSequence) async {
    let (stopping, asked) = AsyncStream.makeStream(of: Never.self)
    let watch = Task {
      var isStopping = false
      for await signal in signals {
        if signal == .sighup {
          service.reloadCertificate()
        } else if isStopping {
          writeError("engram-node: ended by a second signal")
          // As a shell reports a process that a signal ended.
          _exit(128 + (signal == .sigint ? SIGINT : SIGTERM))
        } else {
          isStopping = true
          asked.finish()
        }
      }
    }
    for await _ in stopping {}
    await service.stop()
    watch.cancel()
  }
}
