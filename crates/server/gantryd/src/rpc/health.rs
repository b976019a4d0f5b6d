//! The standard health service. The server as a whole, the empty name, is SERVING as long as it
//! answers: daemons kill one that is not. `types.API` is SERVING as long as it can start processes.

use tonic::{Request, Response, Status};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_server::{Health as Service, HealthServer},
    },
    server::{HealthReporter, HealthService, WatchStream},
};

use crate::readiness::Programs;

const API: &str = gantry_api::types::api_server::SERVICE_NAME;

/// The service.
pub(crate) struct Health {
    programs: Programs,
    reporter: HealthReporter,
    inner: HealthService,
}

impl Health {
    /// Checks the programs once now, and then whenever a client asks.
    pub(crate) async fn service(programs: Programs) -> HealthServer<Self> {
        let reporter = HealthReporter::new();
        let inner = HealthService::from_health_reporter(reporter.clone());
        let health = Self { programs, reporter, inner };
        health.check_programs().await;
        HealthServer::new(health)
    }

    async fn check_programs(&self) {
        let status = match self.programs.are_there().await {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        self.reporter.set_service_status(API, status).await;
    }

    async fn look_for(&self, request: &Request<HealthCheckRequest>) {
        if request.get_ref().service == API {
            self.check_programs().await;
        }
    }
}

#[tonic::async_trait]
impl Service for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.look_for(&request).await;
        self.inner.check(request).await
    }

    type WatchStream = WatchStream;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.look_for(&request).await;
        self.inner.watch(request).await
    }
}
