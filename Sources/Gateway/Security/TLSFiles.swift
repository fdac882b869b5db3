internal import Core
internal import HummingbirdTLS
internal import NIOSSL

/// Certificate and key of an encrypted service.
enum TLSFiles {
  /// Throws `badInput` naming the file that cannot be used.
  static func configuration(certificate: String, privateKey: String) throws -> TLSConfiguration {
    let chain: [NIOSSLCertificate]
    do {
      chain = try NIOSSLCertificate.fromPEMFile(certificate)
    } catch {
      throw FusionRouteError.badInput("the TLS certificate \(certificate) is no readable PEM file", cause: error)
    }
    guard !chain.isEmpty else { throw FusionRouteError.badInput("the file \(certificate) holds no certificate") }
    let key: NIOSSLPrivateKey
    do {
      key = try NIOSSLPrivateKey(file: privateKey, format: .pem)
    } catch {
      throw FusionRouteError.badInput("the TLS key \(privateKey) is no readable PEM file", cause: error)
    }
    var configuration = TLSConfiguration.makeServerConfiguration(
      certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
    configuration.minimumTLSVersion = .tlsv12
    do {
      // Loads them: a key that is another certificate's shows now, not at the first connection.
      _ = try NIOSSLContext(configuration: configuration)
    } catch {
      throw FusionRouteError.badInput(
        "the TLS certificate \(certificate) and the key \(privateKey) do not fit together", cause: error)
    }
    return configuration
  }
}
