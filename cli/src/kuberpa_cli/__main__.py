from kuberpa_cli.main import main

main()
