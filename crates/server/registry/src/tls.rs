//! Whom a connection trusts: the machine's certificate authorities, and what is configured for a host.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use crate::{RegistryError, hosts::HostConfig};

/// Reads the machine's certificate authorities; a file that is damaged is told, and left out.
pub(crate) fn read_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::warn!(%error, "certificate authorities of the machine are left out");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

/// What connections are made with for which nothing is configured.
///
/// # Errors
/// If there is no version of TLS.
pub(crate) fn of_machine(roots: &RootCertStore) -> Result<ClientConfig, RegistryError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|error| RegistryError::Roots(error.to_string()))?;
    Ok(builder.with_root_certificates(roots.clone()).with_no_client_auth())
}

/// What a host's connections are made with.
///
/// # Errors
/// If the host's certificates or keys cannot be used.
pub(crate) fn config(
    roots: &RootCertStore,
    host: &HostConfig,
) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|error| RegistryError::Roots(error.to_string()))?;
    let builder = if host.skip_verify {
        let anybody = Anybody(provider);
        builder.dangerous().with_custom_certificate_verifier(Arc::new(anybody))
    } else if host.ca.is_empty() {
        builder.with_root_certificates(roots.clone())
    } else {
        let own = own(roots, host, provider)?;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(own))
    };
    // rustls shows one certificate: the first that is configured, whichever authorities the registry says it accepts.
    let Some((path, certificates, key)) = host.client.first() else {
        return Ok(builder.with_no_client_auth());
    };
    let wrong = |problem: String| RegistryError::Hosts { path: path.clone(), problem };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
    let certificates =
        certificates.map_err(|error| wrong(format!("has no certificate: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(key);
    let key = key.map_err(|error| wrong(format!("has no key: {error}")))?;
    let built = builder.with_client_auth_cert(certificates, key);
    built.map_err(|error| wrong(format!("cannot be shown to a registry: {error}")))
}

fn own(
    roots: &RootCertStore,
    host: &HostConfig,
    provider: Arc<CryptoProvider>,
) -> Result<OwnAuthorities, RegistryError> {
    let (mut roots, mut given) = (roots.clone(), Vec::new());
    for (path, pem) in &host.ca {
        let wrong = |problem: String| RegistryError::Hosts { path: path.clone(), problem };
        let before = given.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate.clone()).map_err(|error| wrong(error.to_string()))?;
            given.push(certificate);
        }
        if given.len() == before {
            return Err(wrong("has no certificate".to_owned()));
        }
    }
    let by_roots = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let by_roots = by_roots.map_err(|error| RegistryError::Roots(error.to_string()))?;
    Ok(OwnAuthorities { by_roots, given })
}

/// Trusts also a certificate that is given itself, as a registry has it that signs its own: `openssl req -x509` makes
/// it an authority, which webpki takes for no server's certificate, while Go does.
#[derive(Debug)]
struct OwnAuthorities {
    by_roots: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OwnAuthorities {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.by_roots.verify_server_cert(shown, intermediates, name, ocsp, now);
        match verified {
            // Found after the time for which a certificate is valid was looked at.
            Err(error) if is_authority(&error) && self.given.contains(shown) => {
                verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_roots.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_roots.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_roots.supported_verify_schemes()
    }
}

fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Trusts everybody, as `skip_verify` asks for.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
