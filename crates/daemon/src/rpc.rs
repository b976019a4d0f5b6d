//! The gRPC service: each call is one of the daemon's.

use std::{path::PathBuf, time::Duration};

use gantry_client::Signal;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    Checkpoint, Daemon, Error, proto, proto::daemon_service_server::DaemonService, reply, request,
};

type Reply<T> = Result<Response<T>, Status>;

#[async_trait]
impl DaemonService for Daemon {
    async fn create_container(
        &self,
        request: Request<proto::CreateContainerRequest>,
    ) -> Reply<proto::CreateContainerResponse> {
        let proto::CreateContainerRequest { name, config } = request.into_inner();
        let id = self.create(name, request::config(config)?).await?;
        Ok(Response::new(proto::CreateContainerResponse { id }))
    }

    async fn inspect_container(
        &self,
        request: Request<proto::InspectContainerRequest>,
    ) -> Reply<proto::InspectContainerResponse> {
        let record = self.inspect(&request.get_ref().reference)?;
        let container = Some(reply::container(self, record));
        Ok(Response::new(proto::InspectContainerResponse { container }))
    }

    async fn list_containers(
        &self,
        _: Request<proto::ListContainersRequest>,
    ) -> Reply<proto::ListContainersResponse> {
        let containers = self.list().into_iter().map(|r| reply::container(self, r)).collect();
        Ok(Response::new(proto::ListContainersResponse { containers }))
    }

    async fn rename_container(
        &self,
        request: Request<proto::RenameContainerRequest>,
    ) -> Reply<proto::RenameContainerResponse> {
        let proto::RenameContainerRequest { reference, name } = request.into_inner();
        self.rename(&reference, name).await?;
        Ok(Response::new(proto::RenameContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<proto::RemoveContainerRequest>,
    ) -> Reply<proto::RemoveContainerResponse> {
        let proto::RemoveContainerRequest { reference, force } = request.into_inner();
        self.remove(&reference, force).await?;
        Ok(Response::new(proto::RemoveContainerResponse {}))
    }

    async fn start_container(
        &self,
        request: Request<proto::StartContainerRequest>,
    ) -> Reply<proto::StartContainerResponse> {
        let request = request.into_inner();
        let dir = Some(PathBuf::from(request.checkpoint_dir)).filter(|d| !d.as_os_str().is_empty());
        let name = Some(request.checkpoint).filter(|name| !name.is_empty());
        let checkpoint = name.map(|name| Checkpoint { name, dir });
        self.start(&request.reference, checkpoint).await?;
        Ok(Response::new(proto::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<proto::StopContainerRequest>,
    ) -> Reply<proto::StopContainerResponse> {
        let proto::StopContainerRequest { reference, timeout_seconds } = request.into_inner();
        let timeout = timeout_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        self.stop(&reference, timeout).await?;
        Ok(Response::new(proto::StopContainerResponse {}))
    }

    async fn kill_container(
        &self,
        request: Request<proto::KillContainerRequest>,
    ) -> Reply<proto::KillContainerResponse> {
        let proto::KillContainerRequest { reference, signal } = request.into_inner();
        self.kill(&reference, request::signal(&signal, Signal::KILL)?).await?;
        Ok(Response::new(proto::KillContainerResponse {}))
    }

    async fn wait_container(
        &self,
        request: Request<proto::WaitContainerRequest>,
    ) -> Reply<proto::WaitContainerResponse> {
        let state = self.wait(&request.get_ref().reference).await?.state;
        let (exit_code, error) = (state.exit_code, state.error);
        Ok(Response::new(proto::WaitContainerResponse { exit_code, error }))
    }

    async fn mount_container(
        &self,
        request: Request<proto::MountContainerRequest>,
    ) -> Reply<proto::MountContainerResponse> {
        let path = self.mount(&request.get_ref().reference).await?;
        let path = path.to_string_lossy().into_owned();
        Ok(Response::new(proto::MountContainerResponse { path }))
    }

    async fn unmount_container(
        &self,
        request: Request<proto::UnmountContainerRequest>,
    ) -> Reply<proto::UnmountContainerResponse> {
        self.unmount(&request.get_ref().reference).await?;
        Ok(Response::new(proto::UnmountContainerResponse {}))
    }

    async fn create_network(
        &self,
        request: Request<proto::CreateNetworkRequest>,
    ) -> Reply<proto::CreateNetworkResponse> {
        let proto::CreateNetworkRequest { name, subnet } = request.into_inner();
        let subnet = Some(subnet).filter(|subnet| !subnet.is_empty());
        let subnet = subnet.map(|subnet| subnet.parse()).transpose();
        let subnet = subnet.map_err(|error: crate::subnet::BadSubnet| {
            Error::invalid("subnet", error.to_string())
        })?;
        let network = Some(Daemon::create_network(self, name, subnet).await?.into());
        Ok(Response::new(proto::CreateNetworkResponse { network }))
    }

    async fn list_networks(
        &self,
        _: Request<proto::ListNetworksRequest>,
    ) -> Reply<proto::ListNetworksResponse> {
        let networks = self.networks().into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListNetworksResponse { networks }))
    }

    async fn remove_network(
        &self,
        request: Request<proto::RemoveNetworkRequest>,
    ) -> Reply<proto::RemoveNetworkResponse> {
        Daemon::remove_network(self, request.into_inner().name).await?;
        Ok(Response::new(proto::RemoveNetworkResponse {}))
    }
}
