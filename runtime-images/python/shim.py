from fnshim.main import main

main()
